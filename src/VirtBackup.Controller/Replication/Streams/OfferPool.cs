using VirtBackup.Core;

namespace VirtBackup.Controller.Replication.Streams;

/// <summary>The idle streams that one peer offers. Safe for concurrent use.</summary>
internal sealed class OfferPool
{
    private readonly Lock _lock = new();
    private readonly List<OfferedStream> _idle = [];
    private TaskCompletionSource _added = NewSignal();

    /// <summary>Streams that can be taken.</summary>
    public int Count
    {
        get
        {
            lock (_lock)
            {
                return _idle.Count(static stream => !stream.IsBroken);
            }
        }
    }

    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: so many are idle already.</exception>
    public void Add(OfferedStream stream, int max)
    {
        TaskCompletionSource added;
        lock (_lock)
        {
            _idle.RemoveAll(static idle => idle.IsBroken);
            if (_idle.Count >= max)
            {
                throw new FaultException(FaultReason.FailedPrecondition, $"At most {max} idle streams can be offered at a time.");
            }
            _idle.Add(stream);
            (added, _added) = (_added, NewSignal());
        }
        added.TrySetResult();
    }

    /// <summary>The stream that was offered last, which is the likeliest to live; waits while there is none.</summary>
    public async ValueTask<OfferedStream> TakeAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            Task added;
            lock (_lock)
            {
                _idle.RemoveAll(static idle => idle.IsBroken);
                if (_idle.Count > 0)
                {
                    var taken = _idle[^1];
                    _idle.RemoveAt(_idle.Count - 1);
                    return taken;
                }
                added = _added.Task;
            }
            await added.WaitAsync(cancellationToken);
        }
    }

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
