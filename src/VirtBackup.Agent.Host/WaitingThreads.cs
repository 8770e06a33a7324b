using VirtBackup.Hypervisors;

namespace VirtBackup.Agent.Host;

/// <summary>Gives every blocking call a thread of its own: however many wait, the pool's threads go on with everything else.</summary>
internal sealed class WaitingThreads : IBlockingCalls
{
    public Task<T> RunAsync<T>(Func<T> call) =>
        Task.Factory.StartNew(call, CancellationToken.None, TaskCreationOptions.LongRunning | TaskCreationOptions.DenyChildAttach, TaskScheduler.Default);
}
