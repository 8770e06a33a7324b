using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format.Records;

namespace VirtBackup.Format.Packs;

/// <summary>
/// A pack's table of contents (FORMAT.md, "Pack"). One read of the pack's end yields every record's place, so that an
/// index is rebuilt without opening a record. Immutable.
/// </summary>
public sealed class PackFooter
{
    /// <summary>Footer bytes in front of the entries.</summary>
    public const int HeadSize = 16;

    /// <summary>A first read of this many bytes at a pack's end holds the whole footer of most packs.</summary>
    public const int SuffixGuessBytes = 64 << 10;

    private const byte FormatVersion = 1;
    private readonly PackEntry[] _entries;

    private PackFooter(PackTrailer trailer, PackEntry[] entries)
    {
        Trailer = trailer;
        _entries = entries;
    }

    private static ReadOnlySpan<byte> Magic => "VBFOOT\r\n"u8;

    public PackTrailer Trailer { get; }

    public RecordKind Kind => Trailer.Kind;

    /// <summary>The records by (id, scope), strictly ascending.</summary>
    public ReadOnlySpan<PackEntry> Entries => _entries;

    /// <summary>Footer bytes for <paramref name="count"/> records.</summary>
    public static int LengthOf(int count) => checked(HeadSize + (count * PackEntry.Size));

    /// <summary>What a pack grows by when it is closed: footer and trailer of <paramref name="count"/> records, bytes.</summary>
    public static int SuffixLengthOf(int count) => LengthOf(count) + PackTrailer.Size;

    /// <summary>Footer and trailer for a pack whose records end at <paramref name="footerOffset"/>.</summary>
    /// <param name="kind">The kind of every entry.</param>
    /// <param name="entries">The records in any order; sorted in place. They must tile the bytes in front of the footer.</param>
    /// <param name="footerOffset">Bytes of records.</param>
    public static byte[] Build(RecordKind kind, Span<PackEntry> entries, long footerOffset)
    {
        Check.That(entries.Length is > 0 and <= Limits.PackRecordsMax);
        entries.Sort(static (left, right) => left.CompareName(right));
        if (FindViolation(kind, entries, footerOffset) is { } violation)
        {
            throw new InvariantException($"Invariant broken: a pack was closed although {violation}.");
        }
        var suffix = new byte[SuffixLengthOf(entries.Length)];
        var length = LengthOf(entries.Length);
        var writer = new ByteWriter(suffix);
        writer.Bytes(Magic);
        writer.Byte(FormatVersion);
        writer.Byte((byte)kind);
        writer.UInt16(0);
        writer.UInt32((uint)entries.Length);
        foreach (ref readonly var entry in entries)
        {
            entry.Write(writer.Take(PackEntry.Size));
        }
        Span<byte> hash = stackalloc byte[Id32.Size];
        SHA256.HashData(suffix.AsSpan(0, length), hash);
        new PackTrailer(footerOffset, length, entries.Length, Id32.Read(hash), kind).Write(suffix.AsSpan(length));
        return suffix;
    }

    /// <summary>Reads footer and trailer.</summary>
    /// <param name="suffix">The end of the pack: at least <see cref="PackTrailer.SuffixLength"/> bytes; more is allowed.</param>
    /// <param name="packLength">The whole pack, bytes.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>: not canonical; <see cref="FaultReason.Corrupt"/>: the hash differs.</exception>
    public static PackFooter Parse(ReadOnlySpan<byte> suffix, long packLength)
    {
        var trailer = PackTrailer.Parse(suffix, packLength);
        if (suffix.Length < trailer.SuffixLength)
        {
            throw FaultException.Malformed($"The pack's footer needs {trailer.SuffixLength} bytes; only {suffix.Length} were read.");
        }
        var footer = suffix.Slice(suffix.Length - trailer.SuffixLength, trailer.FooterLength);
        Span<byte> hash = stackalloc byte[Id32.Size];
        SHA256.HashData(footer, hash);
        if (Id32.Read(hash) != trailer.FooterHash)
        {
            throw FaultException.Corrupt("The pack's footer does not match its hash.");
        }
        var reader = new ByteReader(footer, "pack footer");
        reader.Expect(Magic, "magic");
        reader.Version(FormatVersion);
        if (reader.Byte() != (byte)trailer.Kind)
        {
            throw FaultException.Malformed("The pack's footer and trailer name different kinds.");
        }
        reader.Reserved(2);
        if (reader.UInt32() != (uint)trailer.Count)
        {
            throw FaultException.Malformed("The pack's footer and trailer name different counts.");
        }
        var entries = new PackEntry[trailer.Count];
        for (var i = 0; i < entries.Length; i++)
        {
            entries[i] = PackEntry.Read(reader.Take(PackEntry.Size));
        }
        return FindViolation(trailer.Kind, entries, trailer.FooterOffset) is { } violation
            ? throw FaultException.Malformed($"The pack's footer is not canonical: {violation}.")
            : new PackFooter(trailer, entries);
    }

    /// <summary>The entry of (id, scope), if the pack has it.</summary>
    public bool TryFind(Id32 id, Id16 scope, out PackEntry entry)
    {
        var wanted = new PackEntry(new RecordHeader(Kind, default, 0, 0, id, scope, 0), 0);
        var at = Array.BinarySearch(_entries, wanted, NameOrder.Instance);
        entry = at >= 0 ? _entries[at] : default;
        return at >= 0;
    }

    private static string? FindViolation(RecordKind kind, ReadOnlySpan<PackEntry> entries, long footerOffset)
    {
        var places = new (uint Offset, int Length)[entries.Length];
        for (var i = 0; i < entries.Length; i++)
        {
            ref readonly var entry = ref entries[i];
            if (entry.Header.Kind != kind)
            {
                return "a record is not of the pack's kind";
            }
            if (entry.Header.FindViolation() is { } violation)
            {
                return $"of record {entry.Header.Id} {violation}";
            }
            if (i > 0 && entries[i - 1].CompareName(entry) >= 0)
            {
                return "its entries do not ascend strictly";
            }
            places[i] = (entry.Offset, entry.Header.RecordLength);
        }
        Array.Sort(places);
        long end = 0;
        foreach (var (offset, length) in places)
        {
            if (offset != end)
            {
                return "its records do not lie back to back";
            }
            end += length;
        }
        return end == footerOffset ? null : "its records do not end where the footer starts";
    }

    private sealed class NameOrder : IComparer<PackEntry>
    {
        public static NameOrder Instance { get; } = new();

        public int Compare(PackEntry x, PackEntry y) => x.CompareName(y);
    }
}
