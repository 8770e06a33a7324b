using System.Buffers.Binary;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.State;

/// <summary>Reads a part of what was saved.</summary>
/// <returns>How many bytes; 0: it ends there.</returns>
internal delegate int SpoolSource(Span<byte> target, long offset);

/// <summary>Reads a saved stream from its start to its end. What another program wrote is not believed: an end that comes too early is a format violation.</summary>
internal sealed class SpoolReader(SpoolSource source, long length)
{
    private readonly byte[] buffer = new byte[256 << 10];
    private int at, end;
    private long filled;

    /// <summary>Of the next byte.</summary>
    public long Position => filled - end + at;

    public long Length => length;

    public byte Byte() => Take(1)[0];

    public uint UInt32() => BinaryPrimitives.ReadUInt32BigEndian(Take(sizeof(uint)));

    public ulong UInt64() => BinaryPrimitives.ReadUInt64BigEndian(Take(sizeof(ulong)));

    /// <summary>The next byte, left where it is.</summary>
    public byte Peek()
    {
        var value = Byte();
        at--;
        return value;
    }

    /// <summary>A text behind one byte of length.</summary>
    public string Name()
    {
        var bytes = Take(Byte());
        return MemoryLayout.IsName(bytes) ? System.Text.Encoding.ASCII.GetString(bytes)
            : throw FaultException.Malformed($"The saved state has a name at {Position} that is not plain text.");
    }

    /// <param name="count">At most 64 KiB.</param>
    public ReadOnlySpan<byte> Take(int count)
    {
        while (end - at < count)
        {
            Fill();
        }
        at += count;
        return buffer.AsSpan(at - count, count);
    }

    public void Skip(long count)
    {
        if (count < 0 || count > length - Position)
        {
            throw Ended();
        }
        var buffered = (int)Math.Min(count, end - at);
        at += buffered;
        if (count > buffered)
        {
            filled += count - buffered;
            at = end = 0;
        }
    }

    private void Fill()
    {
        buffer.AsSpan(at, end - at).CopyTo(buffer);
        end -= at;
        at = 0;
        var read = source(buffer.AsSpan(end, (int)Math.Min(buffer.Length - end, length - filled)), filled);
        if (read <= 0)
        {
            throw Ended();
        }
        end += read;
        filled += read;
    }

    private FaultException Ended() => FaultException.Malformed($"The saved state ends after {length} bytes, in the middle of what its parts call for.");
}
