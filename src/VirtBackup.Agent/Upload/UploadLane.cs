using Google.Protobuf;
using VirtBackup.Agent.Flow;
using VirtBackup.Core;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Protocol.Transport;

namespace VirtBackup.Agent.Upload;

/// <summary>
/// One lane of a write session: records go in, slices of at most 64 KiB go out, durable offsets come back. It outlives
/// connections and sessions: what was not acknowledged is sent again, and nothing else. Appending is safe for
/// concurrent use; one stream runs at a time.
/// </summary>
/// <param name="number">The session's.</param>
/// <param name="kind">Of the records.</param>
/// <param name="retainedBytesMax">What is kept until it is durable.</param>
/// <param name="packBytes">The controller stores so much by itself.</param>
internal sealed class UploadLane(uint number, RecordKind kind, long retainedBytesMax, long packBytes = long.MaxValue) : IDisposable
{
    private const int SlicesPerFlush = 4;

    private readonly RetainedBytes _bytes = new(retainedBytesMax);
    private readonly AsyncSignal _sendable = new();
    private readonly Lock _gate = new();
    private TaskCompletionSource _durableChanged = NewSource();

    // Positions count from the lane's beginning; a session's own offsets count from _origin.
    private long _origin;
    private long _credit;
    private long _sent;
    private long _flushUpTo;
    private bool _completed;

    public uint Number => number;

    public long Durable => _bytes.Durable;

    /// <summary>Appends a whole record. Waits while too much is not yet durable.</summary>
    public async ValueTask AppendAsync(ReadOnlyMemory<byte> record, CancellationToken cancellationToken)
    {
        var undurable = _bytes.End - _bytes.Durable;
        var appending = _bytes.AppendAsync(record, cancellationToken);
        // Nothing else may come that would ask for it, unless a pack is full: then a flush would only make the next one short.
        if (!appending.IsCompleted && Math.Max(undurable, _bytes.End - _bytes.Durable) < packBytes)
        {
            RequestFlush();
        }
        await appending;
        _sendable.Set();
    }

    /// <summary>Waits until everything appended so far is on the controller's stable storage.</summary>
    public async Task FlushAsync(CancellationToken cancellationToken)
    {
        var end = RequestFlush();
        while (true)
        {
            Task changed;
            lock (_gate)
            {
                changed = _durableChanged.Task;
            }
            if (_bytes.Durable >= end)
            {
                return;
            }
            await changed.WaitAsync(cancellationToken);
        }
    }

    /// <summary>Nothing will be appended any more: the stream ends when all is durable.</summary>
    public void Complete()
    {
        lock (_gate)
        {
            _completed = true;
        }
        _sendable.Set();
    }

    /// <summary>Prepares for a stream of a session.</summary>
    /// <param name="state">Where the controller stands in this lane.</param>
    /// <param name="resumed">True: the session is the one before; false: it is new and its offsets start at 0.</param>
    public void Attach(LaneState state, bool resumed)
    {
        ArgumentNullException.ThrowIfNull(state);
        if (!resumed)
        {
            _origin = _bytes.Durable;
        }
        Acknowledge(state);
    }

    /// <summary>Sends and receives until the lane is complete and durable.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Unavailable"/> when the link breaks: attach and run again.</exception>
    public async Task RunAsync(IStoreTransport store, string sessionId, RunProgress progress, CancellationToken cancellationToken)
    {
        Interlocked.Exchange(ref _sent, _bytes.Durable);
        using var loops = new LoopGroup(cancellationToken);
        await using var stream = store.UploadRecords(loops.Token);
        loops.Start(async token =>
        {
            await SendAsync(stream, sessionId, progress, token);
            await stream.CompleteAsync();
        });
        loops.Start(async token =>
        {
            await foreach (var response in stream.ReceiveAsync(token))
            {
                // Bytes that are still to be sent by this stream must stay as they are.
                if (response.State is { } state && state.DurableOffset > (ulong)(Interlocked.Read(ref _sent) - _origin))
                {
                    throw FaultException.Malformed("The controller acknowledged bytes of a lane that were not sent.");
                }
                Acknowledge(response.State);
            }
            if (!IsDone())
            {
                throw new FaultException(FaultReason.Unavailable, "The controller ended an upload stream early.");
            }
        });
        await loops.WhenAllAsync();
    }

    public void Dispose() => _bytes.Dispose();

    private static TaskCompletionSource NewSource() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    private long RequestFlush()
    {
        var end = _bytes.End;
        lock (_gate)
        {
            _flushUpTo = Math.Max(_flushUpTo, end);
        }
        _sendable.Set();
        return end;
    }

    private bool IsDone()
    {
        lock (_gate)
        {
            return _completed && _bytes.Durable == _bytes.End;
        }
    }

    private async Task SendAsync(
        IDuplex<UploadRecordsRequest, UploadRecordsResponse> stream, string sessionId, RunProgress progress, CancellationToken cancellationToken)
    {
        var position = _bytes.Durable;
        await stream.SendAsync(new UploadRecordsRequest { SessionId = sessionId, Lane = number, Kind = kind, Offset = (ulong)(position - _origin) }, cancellationToken);
        var flushed = position;
        var slices = 0;
        while (!IsDone())
        {
            var available = Math.Min(_bytes.End, Interlocked.Read(ref _credit)) - position;
            if (available > 0)
            {
                var slice = _bytes.Peek(position);
                if (slice.Length > available)
                {
                    slice = slice[..(int)available];
                }
                var message = new UploadRecordsRequest { Offset = (ulong)(position - _origin), Data = UnsafeByteOperations.UnsafeWrap(slice) };
                Interlocked.Exchange(ref _sent, position + slice.Length);
                // Only what is followed at once may be gathered.
                var isFollowed = available > slice.Length && ++slices % SlicesPerFlush != 0;
                await (isFollowed ? stream.GatherAsync(message, cancellationToken) : stream.SendAsync(message, cancellationToken));
                position += slice.Length;
                progress.AddSent(slice.Length);
                continue;
            }
            long wanted;
            lock (_gate)
            {
                wanted = _completed ? _bytes.End : _flushUpTo;
            }
            // Out of credit with everything sent so far: only a flush brings new credit.
            if ((wanted > flushed && position >= wanted && wanted > _bytes.Durable) || (position < _bytes.End && position > flushed))
            {
                await stream.SendAsync(new UploadRecordsRequest { Offset = (ulong)(position - _origin), Flush = true }, cancellationToken);
                flushed = position;
                continue;
            }
            await _sendable.WaitAsync(cancellationToken);
        }
    }

    private void Acknowledge(LaneState state)
    {
        if (state is null || state.Lane != number || state.DurableOffset > long.MaxValue / 2 || state.CreditOffset > long.MaxValue / 2)
        {
            throw FaultException.Malformed("The controller acknowledged a lane that it was not asked for.");
        }
        _bytes.Release(_origin + (long)state.DurableOffset);
        Interlocked.Exchange(ref _credit, _origin + (long)state.CreditOffset);
        TaskCompletionSource changed;
        lock (_gate)
        {
            changed = _durableChanged;
            _durableChanged = NewSource();
        }
        changed.TrySetResult();
        _sendable.Set();
    }
}
