using System.Threading.Tasks.Sources;
using VirtBackup.Core;

namespace VirtBackup.Nbd.Wire;

/// <summary>
/// One of the connection's reusable request slots. It has two ends: the caller, who awaits <see cref="Completion"/>, and
/// the wire, which owes a reply. A cancelled caller leaves early and the wire's end lives on, throwing the reply's payload
/// away; the slot is free again when both ends have let go.
/// </summary>
/// <remarks>
/// The caller's memory is touched only between <see cref="TryBorrow"/> or <see cref="TryPutOnWire"/> and
/// <see cref="GiveBack"/>. While it is borrowed, cancelling only leaves a mark; giving it back then ends the call.
/// </remarks>
internal sealed class PendingRequest(int index, NbdConnection owner) : IValueTaskSource
{
    private readonly Lock _gate = new();
    private ManualResetValueTaskSourceCore<bool> _core = new() { RunContinuationsAsynchronously = true };
    private uint _generation;
    private int _borrowers;
    private bool _onWire;
    private bool _completed;
    private bool _callerLeft;
    private bool _wireLeft = true;
    private CancellationToken? _cancelled;
    private Operation _operation;

    /// <summary>Names this use of the slot on the wire; an old reply cannot be taken for a new one's.</summary>
    public ulong Cookie => ((ulong)_generation << 32) | (uint)index;

    public NbdCommand Command { get; private set; }

    public long Offset { get; private set; }

    public int Length { get; private set; }

    public uint ContextId { get; private set; }

    /// <summary>What the reply has said so far. Only the reply loop touches it.</summary>
    public ReplyState Reply { get; } = new();

    /// <summary>Ends when the request is answered, the connection fails, or the caller's token fires.</summary>
    public ValueTask Completion => new(this, _core.Version);

    public void Begin(in Operation operation)
    {
        lock (_gate)
        {
            Check.That(_wireLeft && _borrowers == 0);
            _core.Reset();
            _generation++;
            _operation = operation;
            (Command, Offset, Length, ContextId) = (operation.Command, operation.Offset, operation.Length, operation.ContextId);
            _onWire = _completed = _callerLeft = _wireLeft = false;
            _cancelled = null;
            Reply.Clear();
        }
    }

    /// <summary>Marks the request as sent and lends its source; false when it is over already.</summary>
    public bool TryPutOnWire(out ReadOnlyMemory<byte> source)
    {
        lock (_gate)
        {
            source = _operation.Source;
            if (_completed)
            {
                return false;
            }
            _onWire = true;
            _borrowers++;
            return true;
        }
    }

    /// <summary>True when a reply with this cookie is owed.</summary>
    public bool IsOwed(ulong cookie)
    {
        lock (_gate)
        {
            return _onWire && !_wireLeft && cookie == Cookie;
        }
    }

    /// <summary>Lends the destination and the list of extents; false when the caller has gone.</summary>
    public bool TryBorrow(out Memory<byte> destination, out List<NbdExtent>? extents)
    {
        lock (_gate)
        {
            (destination, extents) = (_operation.Destination, _operation.Extents);
            if (_completed || _cancelled is not null)
            {
                return false;
            }
            _borrowers++;
            return true;
        }
    }

    public void GiveBack()
    {
        CancellationToken? cancelled;
        lock (_gate)
        {
            Check.That(_borrowers > 0);
            _borrowers--;
            if (_borrowers > 0 || _cancelled is null || !TryComplete())
            {
                return;
            }
            cancelled = _cancelled;
        }
        _core.SetException(new OperationCanceledException(cancelled.Value));
    }

    /// <summary>The caller's token fired: ends the call, now or when its memory is given back.</summary>
    public void Cancel(CancellationToken token)
    {
        bool lent;
        ulong cookie;
        lock (_gate)
        {
            if (_completed)
            {
                return;
            }
            _cancelled = token;
            (lent, cookie) = (_borrowers > 0, Cookie);
            _completed = !lent;
        }
        if (lent)
        {
            _ = owner.WatchCancelledAsync(this, cookie);
        }
        else
        {
            _core.SetException(new OperationCanceledException(token));
        }
    }

    /// <summary>True while a cancelled use of the slot still waits for its memory.</summary>
    public bool IsStuck(ulong cookie)
    {
        lock (_gate)
        {
            return cookie == Cookie && _cancelled is not null && !_completed;
        }
    }

    /// <summary>The wire's end is over, with a result or a failure. True: the slot is free.</summary>
    public bool Finish(Exception? failure)
    {
        bool completes, free;
        lock (_gate)
        {
            if (_wireLeft)
            {
                return false;
            }
            _wireLeft = true;
            completes = TryComplete();
            free = _callerLeft;
            if (_cancelled is { } token)
            {
                // Cancelled while the request was still being sent: payload that came since was thrown away.
                failure = new OperationCanceledException(token);
            }
        }
        if (completes && failure is null)
        {
            _core.SetResult(true);
        }
        else if (completes)
        {
            _core.SetException(failure!);
        }
        return free;
    }

    /// <summary>The caller's end is over. True: the slot is free.</summary>
    public bool Leave()
    {
        lock (_gate)
        {
            _callerLeft = true;
            _operation = default;
            if (!_onWire)
            {
                _completed = _wireLeft = true;
            }
            return _wireLeft;
        }
    }

    private bool TryComplete()
    {
        var first = !_completed;
        _completed = true;
        return first;
    }

    void IValueTaskSource.GetResult(short token) => _core.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource.GetStatus(short token) => _core.GetStatus(token);

    void IValueTaskSource.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _core.OnCompleted(continuation, state, token, flags);
}

/// <summary>What the chunks of a structured reply have said so far.</summary>
internal sealed class ReplyState
{
    public ReadCoverage Coverage { get; } = new();

    /// <summary>The first error that was reported.</summary>
    public NbdError? Error { get; set; }

    public string? ErrorMessage { get; set; }

    /// <summary>One bit per negotiated context that has been reported.</summary>
    public uint ContextsSeen { get; set; }

    public void Clear()
    {
        Coverage.Clear();
        (Error, ErrorMessage, ContextsSeen) = (null, null, 0);
    }
}
