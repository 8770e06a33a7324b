using System.Buffers.Binary;
using VirtBackup.Core;

namespace VirtBackup.Format;

/// <summary>Reads little-endian fields one after another; running out of bytes is a <see cref="FaultReason.Malformed"/> fault.</summary>
/// <param name="source">The bytes.</param>
/// <param name="what">What is being read, for the message: "manifest", "key object".</param>
public ref struct ByteReader(ReadOnlySpan<byte> source, string what)
{
    private readonly ReadOnlySpan<byte> _source = source;

    /// <summary>Bytes consumed so far.</summary>
    public int Position { get; private set; }

    public readonly int Remaining => _source.Length - Position;

    public ReadOnlySpan<byte> Take(int count)
    {
        if ((uint)count > (uint)Remaining)
        {
            throw FaultException.Malformed($"The {what} ends at byte {_source.Length}, inside a field.");
        }
        var bytes = _source.Slice(Position, count);
        Position += count;
        return bytes;
    }

    public byte Byte() => Take(1)[0];

    public ushort UInt16() => BinaryPrimitives.ReadUInt16LittleEndian(Take(2));

    public uint UInt32() => BinaryPrimitives.ReadUInt32LittleEndian(Take(4));

    /// <summary>A u32 that must not exceed <paramref name="max"/>.</summary>
    public int Count(int max, string field)
    {
        var value = UInt32();
        return value <= (uint)max ? (int)value : throw FaultException.Malformed($"The {what}'s {field} is {value}; at most {max} is allowed.");
    }

    /// <summary>A u64 that must fit the non-negative half of i64.</summary>
    public long Int63(string field)
    {
        var value = BinaryPrimitives.ReadInt64LittleEndian(Take(8));
        return value >= 0 ? value : throw FaultException.Malformed($"The {what}'s {field} is out of range.");
    }

    public Id16 Id16() => Core.Id16.Read(Take(Core.Id16.Size));

    public Id32 Id32() => Core.Id32.Read(Take(Core.Id32.Size));

    public void Expect(ReadOnlySpan<byte> bytes, string field)
    {
        if (!Take(bytes.Length).SequenceEqual(bytes))
        {
            throw FaultException.Malformed($"The {what} does not carry the expected {field}.");
        }
    }

    /// <summary>Reads one byte that must be <paramref name="version"/>.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Unsupported"/>: another version.</exception>
    public void Version(byte version)
    {
        var found = Byte();
        if (found != version)
        {
            throw new FaultException(FaultReason.Unsupported, $"The {what} has format version {found}; this program reads version {version}. Use a newer release.");
        }
    }

    /// <summary>Skips reserved bytes, which must be zero.</summary>
    public void Reserved(int count)
    {
        if (Take(count).ContainsAnyExcept((byte)0))
        {
            throw FaultException.Malformed($"A reserved byte of the {what} is not zero.");
        }
    }

    /// <summary>Requires that every byte was read.</summary>
    public readonly void End()
    {
        if (Remaining != 0)
        {
            throw FaultException.Malformed($"The {what} is followed by {Remaining} surplus bytes.");
        }
    }
}
