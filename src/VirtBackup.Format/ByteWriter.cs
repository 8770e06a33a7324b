using System.Buffers.Binary;
using VirtBackup.Core;

namespace VirtBackup.Format;

/// <summary>Writes little-endian fields one after another into a buffer that must be large enough.</summary>
public ref struct ByteWriter(Span<byte> destination)
{
    private readonly Span<byte> _destination = destination;

    /// <summary>Bytes written so far.</summary>
    public int Position { get; private set; }

    /// <summary>The next <paramref name="count"/> bytes, for the caller to fill.</summary>
    public Span<byte> Take(int count)
    {
        var bytes = _destination.Slice(Position, count);
        Position += count;
        return bytes;
    }

    public void Byte(byte value) => Take(1)[0] = value;

    public void UInt16(ushort value) => BinaryPrimitives.WriteUInt16LittleEndian(Take(2), value);

    public void UInt32(uint value) => BinaryPrimitives.WriteUInt32LittleEndian(Take(4), value);

    public void Int64(long value) => BinaryPrimitives.WriteInt64LittleEndian(Take(8), value);

    public void Id16(Id16 value) => value.Write(Take(Core.Id16.Size));

    public void Id32(Id32 value) => value.Write(Take(Core.Id32.Size));

    public void Bytes(ReadOnlySpan<byte> value) => value.CopyTo(Take(value.Length));

    public void Zeros(int count) => Take(count).Clear();
}
