namespace VirtBackup.Agent.Flow;

/// <summary>Wakes one waiting loop. A signal set while nobody waits is kept; several become one. Safe for concurrent setters.</summary>
internal sealed class AsyncSignal
{
    private readonly Lock _gate = new();
    private TaskCompletionSource? _waiter;
    private bool _set;

    public void Set()
    {
        lock (_gate)
        {
            // A waiter that was cancelled takes nothing with it: the signal stays for the next one.
            _set = _waiter is null || !_waiter.TrySetResult();
            _waiter = null;
        }
    }

    public async ValueTask WaitAsync(CancellationToken cancellationToken)
    {
        TaskCompletionSource waiter;
        lock (_gate)
        {
            if (_set)
            {
                _set = false;
                return;
            }
            Core.Check.That(_waiter is null || _waiter.Task.IsCompleted);
            _waiter = waiter = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        }
        await using var registration = cancellationToken.UnsafeRegister(static (state, token) => ((TaskCompletionSource)state!).TrySetCanceled(token), waiter);
        await waiter.Task;
    }
}
