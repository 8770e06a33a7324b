using System.Buffers.Binary;

namespace VirtBackup.Core;

/// <summary>
/// A 32-byte name: the id of a chunk or of a map node, the hash of a pack or manifest. All zero means "nothing is
/// here" (a run of zero bytes, an empty subtree). Ordered by its bytes; written as 64 lower-case hexadecimal digits.
/// </summary>
public readonly record struct Id32(UInt128 High, UInt128 Low) : IComparable<Id32>
{
    /// <summary>Length in bytes.</summary>
    public const int Size = 32;

    public static Id32 Zero => default;

    public bool IsZero => High == 0 && Low == 0;

    /// <summary>Reads the first 32 bytes of <paramref name="source"/>.</summary>
    public static Id32 Read(ReadOnlySpan<byte> source) =>
        new(BinaryPrimitives.ReadUInt128BigEndian(source), BinaryPrimitives.ReadUInt128BigEndian(source[16..]));

    /// <exception cref="FormatException">The text is not 64 hexadecimal digits.</exception>
    public static Id32 Parse(string text) =>
        text is { Length: 2 * Size } ? Read(Convert.FromHexString(text)) : throw new FormatException($"'{text}' is not a hash: 64 hexadecimal digits were expected.");

    /// <summary>Writes the 32 bytes to the start of <paramref name="destination"/>.</summary>
    public void Write(Span<byte> destination)
    {
        BinaryPrimitives.WriteUInt128BigEndian(destination, High);
        BinaryPrimitives.WriteUInt128BigEndian(destination[16..], Low);
    }

    public byte[] ToArray()
    {
        var bytes = new byte[Size];
        Write(bytes);
        return bytes;
    }

    public int CompareTo(Id32 other)
    {
        var high = High.CompareTo(other.High);
        return high != 0 ? high : Low.CompareTo(other.Low);
    }

    public static bool operator <(Id32 left, Id32 right) => left.CompareTo(right) < 0;
    public static bool operator >(Id32 left, Id32 right) => left.CompareTo(right) > 0;
    public static bool operator <=(Id32 left, Id32 right) => left.CompareTo(right) <= 0;
    public static bool operator >=(Id32 left, Id32 right) => left.CompareTo(right) >= 0;

    // Names are already uniformly distributed: eight of their bytes are as good a hash as any.
    public override int GetHashCode() => (int)((ulong)Low ^ ((ulong)Low >> 32));

    public override string ToString() => High.ToString("x32") + Low.ToString("x32");
}
