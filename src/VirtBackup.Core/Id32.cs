using System.Buffers.Binary;
using System.Text.Json.Serialization;

namespace VirtBackup.Core;

/// <summary>
/// A 32-byte name: the id of a chunk or of a map node, the hash of a pack or manifest. All zero means "nothing is
/// here" (a run of zero bytes, an empty subtree). Ordered by its bytes; written as 64 lower-case hexadecimal digits.
/// </summary>
/// <remarks>Four words and no <see cref="UInt128"/> inside: what has one in its signature cannot be compiled ahead of time.</remarks>
public readonly record struct Id32 : IComparable<Id32>
{
    private readonly ulong _second;
    private readonly ulong _third;
    private readonly ulong _last;

    private Id32(ulong first, ulong second, ulong third, ulong last)
    {
        Leading = first;
        _second = second;
        _third = third;
        _last = last;
    }

    [JsonConstructor]
    public Id32(UInt128 high, UInt128 low)
        : this((ulong)(high >> 64), (ulong)high, (ulong)(low >> 64), (ulong)low)
    {
    }

    /// <summary>The first eight bytes, the most significant first.</summary>
    [JsonIgnore]
    public ulong Leading { get; }

    public UInt128 High => new(Leading, _second);

    public UInt128 Low => new(_third, _last);

    /// <summary>Length in bytes.</summary>
    public const int Size = 32;

    public static Id32 Zero => default;

    public bool IsZero => (Leading | _second | _third | _last) == 0;

    /// <summary>Reads the first 32 bytes of <paramref name="source"/>.</summary>
    public static Id32 Read(ReadOnlySpan<byte> source) => new(
        BinaryPrimitives.ReadUInt64BigEndian(source),
        BinaryPrimitives.ReadUInt64BigEndian(source[8..]),
        BinaryPrimitives.ReadUInt64BigEndian(source[16..]),
        BinaryPrimitives.ReadUInt64BigEndian(source[24..]));

    /// <exception cref="FormatException">The text is not 64 hexadecimal digits.</exception>
    public static Id32 Parse(string text) =>
        text is { Length: 2 * Size } ? Read(Convert.FromHexString(text)) : throw new FormatException($"'{text}' is not a hash: 64 hexadecimal digits were expected.");

    /// <summary>Writes the 32 bytes to the start of <paramref name="destination"/>.</summary>
    public void Write(Span<byte> destination)
    {
        BinaryPrimitives.WriteUInt64BigEndian(destination, Leading);
        BinaryPrimitives.WriteUInt64BigEndian(destination[8..], _second);
        BinaryPrimitives.WriteUInt64BigEndian(destination[16..], _third);
        BinaryPrimitives.WriteUInt64BigEndian(destination[24..], _last);
    }

    public byte[] ToArray()
    {
        var bytes = new byte[Size];
        Write(bytes);
        return bytes;
    }

    public int CompareTo(Id32 other)
    {
        var order = Leading.CompareTo(other.Leading);
        if (order == 0) order = _second.CompareTo(other._second);
        if (order == 0) order = _third.CompareTo(other._third);
        return order != 0 ? order : _last.CompareTo(other._last);
    }

    public static Id32 operator ^(Id32 left, Id32 right) =>
        new(left.Leading ^ right.Leading, left._second ^ right._second, left._third ^ right._third, left._last ^ right._last);

    public static bool operator <(Id32 left, Id32 right) => left.CompareTo(right) < 0;
    public static bool operator >(Id32 left, Id32 right) => left.CompareTo(right) > 0;
    public static bool operator <=(Id32 left, Id32 right) => left.CompareTo(right) <= 0;
    public static bool operator >=(Id32 left, Id32 right) => left.CompareTo(right) >= 0;

    // Names are already uniformly distributed: eight of their bytes are as good a hash as any.
    public override int GetHashCode() => (int)(_last ^ (_last >> 32));

    public override string ToString() => string.Create(2 * Size, this, static (text, id) =>
    {
        Span<byte> bytes = stackalloc byte[Size];
        id.Write(bytes);
        Convert.TryToHexStringLower(bytes, text, out _);
    });
}
