using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using System.Text.Json.Serialization;

namespace VirtBackup.Core;

/// <summary>
/// A 16-byte name: repository, virtual machine, lineage, recovery point, scope, key epoch, key.
/// Written as 32 lower-case hexadecimal digits; ordered by its bytes.
/// </summary>
/// <remarks>Two words and no <see cref="UInt128"/> inside: what has one in its signature cannot be compiled ahead of time.</remarks>
public readonly record struct Id16 : IComparable<Id16>
{
    private readonly ulong _high;
    private readonly ulong _low;

    private Id16(ulong high, ulong low)
    {
        _high = high;
        _low = low;
    }

    // Recovery points hold documents with names in JSON.
    [JsonConstructor]
    public Id16(UInt128 value)
        : this((ulong)(value >> 64), (ulong)value)
    {
    }

    public UInt128 Value => new(_high, _low);

    /// <summary>Length in bytes.</summary>
    public const int Size = 16;

    public static Id16 Empty => default;

    public bool IsEmpty => (_high | _low) == 0;

    /// <summary>Reads the first 16 bytes of <paramref name="source"/>.</summary>
    public static Id16 Read(ReadOnlySpan<byte> source) => new(BinaryPrimitives.ReadUInt64BigEndian(source), BinaryPrimitives.ReadUInt64BigEndian(source[8..]));

    /// <summary>A fresh name from <paramref name="entropy"/>.</summary>
    public static Id16 Create(IEntropy entropy)
    {
        ArgumentNullException.ThrowIfNull(entropy);
        Span<byte> bytes = stackalloc byte[Size];
        entropy.Fill(bytes);
        return Read(bytes);
    }

    /// <summary>
    /// A name from a UUID's text, with or without dashes (RFC 9562 section 4: the bytes in the order in which they are written).
    /// </summary>
    public static bool TryParse([NotNullWhen(true)] string? text, out Id16 id)
    {
        id = default;
        var hex = text?.Replace("-", "", StringComparison.Ordinal);
        if (hex is not { Length: 2 * Size } || !TryParseWord(hex.AsSpan(0, Size), out var high) || !TryParseWord(hex.AsSpan(Size), out var low))
        {
            return false;
        }
        id = new Id16(high, low);
        return true;
    }

    /// <exception cref="FormatException">The text is not 32 hexadecimal digits.</exception>
    public static Id16 Parse(string text) =>
        TryParse(text, out var id) ? id : throw new FormatException($"'{text}' is not an identifier: 32 hexadecimal digits were expected.");

    /// <summary>Writes the 16 bytes to the start of <paramref name="destination"/>.</summary>
    public void Write(Span<byte> destination)
    {
        BinaryPrimitives.WriteUInt64BigEndian(destination, _high);
        BinaryPrimitives.WriteUInt64BigEndian(destination[8..], _low);
    }

    public byte[] ToArray()
    {
        var bytes = new byte[Size];
        Write(bytes);
        return bytes;
    }

    public int CompareTo(Id16 other)
    {
        var high = _high.CompareTo(other._high);
        return high != 0 ? high : _low.CompareTo(other._low);
    }

    public static bool operator <(Id16 left, Id16 right) => left.CompareTo(right) < 0;
    public static bool operator >(Id16 left, Id16 right) => left.CompareTo(right) > 0;
    public static bool operator <=(Id16 left, Id16 right) => left.CompareTo(right) <= 0;
    public static bool operator >=(Id16 left, Id16 right) => left.CompareTo(right) >= 0;

    public override string ToString() => _high.ToString("x16") + _low.ToString("x16");

    /// <summary>The UUID form with dashes, as hypervisors write it.</summary>
    public string ToUuidString()
    {
        var text = ToString();
        return $"{text[..8]}-{text[8..12]}-{text[12..16]}-{text[16..20]}-{text[20..]}";
    }

    private static bool TryParseWord(ReadOnlySpan<char> hex, out ulong word) =>
        ulong.TryParse(hex, System.Globalization.NumberStyles.AllowHexSpecifier, null, out word);
}
