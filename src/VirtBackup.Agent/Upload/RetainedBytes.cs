using VirtBackup.Agent.Flow;
using VirtBackup.Core;

namespace VirtBackup.Agent.Upload;

/// <summary>
/// The bytes of a lane from the last durable one to the end, in a ring of segments: what must be sent, and kept for
/// sending again until it is durable. Segments are made when first needed and used again. Appending waits while the
/// bound is reached. Safe for concurrent use.
/// </summary>
internal sealed class RetainedBytes(long bytesMax) : IDisposable
{
    // Large objects: smaller ones would be copied from generation to generation.
    private const int SegmentBytes = 16 * Limits.SliceBytesMax;
    private readonly Lock _gate = new();
    private readonly ByteBudget _budget = new(bytesMax);
    private readonly byte[]?[] _ring = new byte[]?[(bytesMax / SegmentBytes) + 2];
    private readonly Stack<byte[]> _spare = new();
    private long _end;
    private long _durable;
    private bool _disposed;

    /// <summary>Bytes appended so far; the end of the lane.</summary>
    public long End
    {
        get
        {
            lock (_gate)
            {
                return _end;
            }
        }
    }

    public long Durable
    {
        get
        {
            lock (_gate)
            {
                return _durable;
            }
        }
    }

    /// <summary>Appends a whole record; returns the offset behind it. Completes at once when there is room.</summary>
    public async ValueTask<long> AppendAsync(ReadOnlyMemory<byte> record, CancellationToken cancellationToken)
    {
        await _budget.TakeAsync(record.Length, cancellationToken);
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            var source = record.Span;
            while (source.Length > 0)
            {
                var used = (int)(_end % SegmentBytes);
                ref var segment = ref _ring[(_end / SegmentBytes) % _ring.Length];
                segment ??= _spare.TryPop(out var spare) ? spare : GC.AllocateUninitializedArray<byte>(SegmentBytes);
                var count = Math.Min(SegmentBytes - used, source.Length);
                source[..count].CopyTo(segment.AsSpan(used));
                source = source[count..];
                _end += count;
            }
            return _end;
        }
    }

    /// <summary>
    /// The bytes at <paramref name="offset"/> up to the end of their slice or of the lane. They stay valid until they
    /// are durable.
    /// </summary>
    public ReadOnlyMemory<byte> Peek(long offset)
    {
        lock (_gate)
        {
            Check.That(offset >= _durable && offset < _end && !_disposed);
            var start = (int)(offset % SegmentBytes);
            return _ring[(offset / SegmentBytes) % _ring.Length].AsMemory(start, (int)Math.Min(Limits.SliceBytesMax - (start % Limits.SliceBytesMax), _end - offset));
        }
    }

    /// <summary>Everything below <paramref name="durable"/> is on stable storage and is let go.</summary>
    public void Release(long durable)
    {
        long released;
        lock (_gate)
        {
            if (durable < _durable || durable > _end)
            {
                throw FaultException.Malformed($"The controller acknowledged byte {durable} of a lane; between {_durable} and {_end} was possible.");
            }
            for (var segment = _durable / SegmentBytes; segment < durable / SegmentBytes; segment++)
            {
                ref var slot = ref _ring[segment % _ring.Length];
                _spare.Push(slot!);
                slot = null;
            }
            released = durable - _durable;
            _durable = durable;
        }
        if (released > 0)
        {
            _budget.Return(released);
        }
    }

    public void Dispose()
    {
        lock (_gate)
        {
            // Segments may still lie in a message that is being sent: they are left to the garbage collector.
            _disposed = true;
            Array.Clear(_ring);
            _spare.Clear();
        }
    }
}
