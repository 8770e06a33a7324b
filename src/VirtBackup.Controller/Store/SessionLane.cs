using VirtBackup.Core;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Repository.Ingest;
using RecordKind = VirtBackup.Format.Records.RecordKind;

namespace VirtBackup.Controller.Store;

/// <summary>
/// One lane of a session and the one stream that may write to it: a newer stream pushes an older one out. Safe for
/// concurrent use.
/// </summary>
internal sealed class SessionLane(uint number, IngestLane lane, long creditBytes) : IAsyncDisposable
{
    private readonly SemaphoreSlim _using = new(1, 1);
    private readonly Lock _lock = new();
    private CancellationTokenSource? _stream;

    public uint Number => number;

    public RecordKind Kind => lane.Kind;

    /// <summary>Where the lane stands, for the agent.</summary>
    public LaneState State
    {
        get
        {
            var durable = lane.DurableOffset;
            return new LaneState { Lane = number, DurableOffset = (ulong)durable, CreditOffset = (ulong)(durable + creditBytes) };
        }
    }

    /// <summary>Ends the stream that writes now, if any, and waits until it has let go; then begins anew at the durable offset.</summary>
    public async ValueTask ResetAsync(CancellationToken cancellationToken)
    {
        EndStream(null);
        using (await EnterAsync(cancellationToken))
        {
            await lane.RewindAsync(cancellationToken);
        }
    }

    /// <summary>Makes this stream the only one. The source is cancelled when another one comes.</summary>
    public async ValueTask TakeAsync(CancellationTokenSource stream, CancellationToken cancellationToken)
    {
        EndStream(stream);
        using (await EnterAsync(cancellationToken))
        {
            cancellationToken.ThrowIfCancellationRequested();
            await lane.RewindAsync(cancellationToken);
        }
    }

    public void Leave(CancellationTokenSource stream)
    {
        lock (_lock)
        {
            if (_stream == stream)
            {
                _stream = null;
            }
        }
    }

    /// <summary>Takes bytes at <paramref name="offset"/>; what was taken already is skipped.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: a gap, or beyond the credit.</exception>
    public async ValueTask AppendAsync(ulong offset, ReadOnlyMemory<byte> data, CancellationToken cancellationToken)
    {
        using (await EnterAsync(cancellationToken))
        {
            var position = lane.AppendedOffset;
            if (offset > (ulong)position)
            {
                throw new FaultException(FaultReason.InvalidArgument, $"Lane {number} continues at byte {position}; {data.Length} bytes came for byte {offset}.");
            }
            data = data[(int)Math.Min((ulong)position - offset, (ulong)data.Length)..];
            if (position + data.Length > lane.DurableOffset + creditBytes)
            {
                throw new FaultException(FaultReason.InvalidArgument, $"Lane {number} was sent more than its credit: the durable offset is {lane.DurableOffset}.");
            }
            if (data.Length > 0)
            {
                await lane.AppendAsync(data, cancellationToken);
            }
            // Map packs never fill before the credit ends: half of it undurable is time to store what there is.
            if (Kind == RecordKind.Map && lane.AppendedOffset - lane.DurableOffset >= creditBytes / 2)
            {
                await lane.FlushAsync(cancellationToken);
            }
        }
    }

    public async ValueTask FlushAsync(CancellationToken cancellationToken)
    {
        using (await EnterAsync(cancellationToken))
        {
            await lane.FlushAsync(cancellationToken);
        }
    }

    /// <summary>Flushes if nothing has come since the lane stood at <paramref name="seenOffset"/>; returns where it stands.</summary>
    public async ValueTask<long> FlushIfIdleAsync(long seenOffset, CancellationToken cancellationToken)
    {
        using (await EnterAsync(cancellationToken))
        {
            // Whoever waits for a pack on its way sends nothing meanwhile, and is not idle.
            if (lane.AppendedOffset == seenOffset && lane.DurableOffset < seenOffset && !lane.IsStoring)
            {
                await lane.FlushAsync(cancellationToken);
            }
            return lane.AppendedOffset;
        }
    }

    public ValueTask<long> WaitForDurableAsync(long offset, CancellationToken cancellationToken) => lane.WaitForDurableAsync(offset, cancellationToken);

    /// <summary>Ends the stream that writes now.</summary>
    public void EndStream() => EndStream(null);

    /// <summary>Waits until the last user has let go; nobody may use the lane afterwards.</summary>
    public async ValueTask DisposeAsync()
    {
        EndStream(null);
        await _using.WaitAsync();
        await lane.DisposeAsync();
        // Who comes late finds the lane disposed, not the gate.
        _using.Release();
    }

    private void EndStream(CancellationTokenSource? next)
    {
        CancellationTokenSource? older;
        lock (_lock)
        {
            older = _stream;
            _stream = next;
        }
        try
        {
            older?.Cancel();
        }
        catch (ObjectDisposedException)
        {
            // It ended by itself meanwhile.
        }
    }

    private async ValueTask<Leaving> EnterAsync(CancellationToken cancellationToken)
    {
        await _using.WaitAsync(cancellationToken);
        return new Leaving(_using);
    }

    private readonly struct Leaving(SemaphoreSlim gate) : IDisposable
    {
        public void Dispose() => gate.Release();
    }
}
