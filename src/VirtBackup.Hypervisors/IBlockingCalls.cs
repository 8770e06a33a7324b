namespace VirtBackup.Hypervisors;

/// <summary>
/// Runs calls of foreign libraries that block their thread, for seconds or, when their peer hangs, for much longer. Given by
/// the program: it decides which threads wait, so that no loop of ours does. Safe for concurrent use.
/// </summary>
public interface IBlockingCalls
{
    /// <summary>Runs the call to its end; what it throws comes with the task. It cannot be cancelled, only no longer waited for.</summary>
    Task<T> RunAsync<T>(Func<T> call);
}
