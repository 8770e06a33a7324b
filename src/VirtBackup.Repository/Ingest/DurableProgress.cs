using VirtBackup.Core;

namespace VirtBackup.Repository.Ingest;

/// <summary>How much of a lane is durable, and a way to wait for more. Safe for concurrent use.</summary>
internal sealed class DurableProgress
{
    private readonly Lock _sync = new();
    private TaskCompletionSource _changed = NewSignal();
    private Exception? _failure;
    private long _offset;

    public long Offset
    {
        get
        {
            lock (_sync)
            {
                return _offset;
            }
        }
    }

    public void Advance(long offset)
    {
        lock (_sync)
        {
            Check.That(offset >= _offset);
            _offset = offset;
            Signal();
        }
    }

    public void Fail(Exception failure)
    {
        lock (_sync)
        {
            _failure ??= failure;
            Signal();
        }
    }

    public void Revive()
    {
        lock (_sync)
        {
            _failure = null;
        }
    }

    public async ValueTask<long> WaitAsync(long offset, CancellationToken cancellationToken)
    {
        while (true)
        {
            Task changed;
            lock (_sync)
            {
                if (_offset > offset)
                {
                    return _offset;
                }
                if (_failure is { } failure)
                {
                    throw new FaultException((failure as FaultException)?.Reason ?? FaultReason.FailedPrecondition, failure.Message, failure);
                }
                changed = _changed.Task;
            }
            await changed.WaitAsync(cancellationToken);
        }
    }

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    private void Signal()
    {
        _changed.SetResult();
        _changed = NewSignal();
    }
}
