using System.Buffers;
using VirtBackup.Core;
using VirtBackup.Format.Records;

namespace VirtBackup.Repository.Replication;

/// <summary>Cuts a stream of records, however it is sliced, into whole ones. Holds one record. Not safe for concurrent use.</summary>
/// <param name="accept">Told of each header before its payload is taken; refuses it with a fault.</param>
internal sealed class RecordCutter(Action<RecordHeader> accept) : IDisposable
{
    private const int SmallBytes = 64 << 10;

    private byte[] _buffer = ArrayPool<byte>.Shared.Rent(SmallBytes);
    private RecordHeader _header;
    private int _fill;
    private bool _hasHeader;

    /// <summary>Some bytes of a record have come, and not all.</summary>
    public bool IsInside => _fill > 0;

    /// <summary>Takes bytes up to the end of a record at most.</summary>
    /// <param name="slice">The next bytes.</param>
    /// <param name="record">The record that is whole with them, header and payload; valid until the next call.</param>
    /// <returns>How many bytes were taken.</returns>
    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>: not a record; what accepts headers says.</exception>
    public int Take(ReadOnlySpan<byte> slice, out ReadOnlyMemory<byte>? record)
    {
        record = null;
        var taken = 0;
        if (!_hasHeader)
        {
            taken = Append(slice, RecordHeader.Size);
            if (_fill < RecordHeader.Size)
            {
                return taken;
            }
            _header = RecordHeader.Parse(_buffer);
            accept(_header);
            _hasHeader = true;
            Reserve(_header.RecordLength);
        }
        taken += Append(slice[taken..], _header.RecordLength);
        if (_fill == _header.RecordLength)
        {
            record = _buffer.AsMemory(0, _fill);
            (_fill, _hasHeader) = (0, false);
        }
        return taken;
    }

    public void Dispose()
    {
        ArrayPool<byte>.Shared.Return(_buffer);
        _buffer = [];
    }

    private int Append(ReadOnlySpan<byte> slice, int until)
    {
        var count = Math.Min(until - _fill, slice.Length);
        slice[..count].CopyTo(_buffer.AsSpan(_fill));
        _fill += count;
        return count;
    }

    private void Reserve(int bytes)
    {
        if (_buffer.Length < bytes)
        {
            var larger = ArrayPool<byte>.Shared.Rent(bytes);
            _buffer.AsSpan(0, _fill).CopyTo(larger);
            ArrayPool<byte>.Shared.Return(_buffer);
            _buffer = larger;
        }
    }
}
