namespace VirtBackup.Agent.Flow;

/// <summary>
/// Bounds the bytes that are under way. Waiters are served in order. Safe for concurrent use.
/// </summary>
internal sealed class ByteBudget
{
    private readonly long _bytes;
    private readonly Lock _gate = new();
    private readonly Queue<(long Bytes, TaskCompletionSource Ready)> _waiters = new();
    private long _free;

    public ByteBudget(long bytes) => _bytes = _free = bytes;

    /// <summary>Waits for <paramref name="count"/> bytes, at most the whole budget.</summary>
    public async ValueTask TakeAsync(long count, CancellationToken cancellationToken)
    {
        Core.Check.That(count <= _bytes);
        TaskCompletionSource ready;
        lock (_gate)
        {
            if (_waiters.Count == 0 && _free >= count)
            {
                _free -= count;
                return;
            }
            ready = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            _waiters.Enqueue((count, ready));
        }
        await using var registration = cancellationToken.UnsafeRegister(static (state, token) => ((TaskCompletionSource)state!).TrySetCanceled(token), ready);
        await ready.Task;
    }

    public void Return(long count)
    {
        lock (_gate)
        {
            _free += count;
            while (_waiters.TryPeek(out var next) && (next.Ready.Task.IsCompleted || _free >= next.Bytes))
            {
                _waiters.Dequeue();
                if (next.Ready.TrySetResult())
                {
                    _free -= next.Bytes;
                }
            }
        }
    }
}
