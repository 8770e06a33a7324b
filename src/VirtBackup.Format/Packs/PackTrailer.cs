using System.Buffers.Binary;
using VirtBackup.Core;
using VirtBackup.Format.Records;

namespace VirtBackup.Format.Packs;

/// <summary>The last 64 bytes of a pack: where its footer lies and the footer's hash.</summary>
/// <param name="FooterOffset">Bytes of records in front of the footer.</param>
/// <param name="FooterLength">Bytes of the footer.</param>
/// <param name="Count">Records in the pack.</param>
/// <param name="FooterHash">SHA-256 of the footer.</param>
/// <param name="Kind">The kind of every record in the pack.</param>
public readonly record struct PackTrailer(long FooterOffset, int FooterLength, int Count, Id32 FooterHash, RecordKind Kind)
{
    /// <summary>Trailer bytes.</summary>
    public const int Size = 64;

    private const int CheckedBytes = 52;
    private const byte FormatVersion = 1;

    private static ReadOnlySpan<byte> Magic => "VBPACK\r\n"u8;

    /// <summary>Bytes at the pack's end that hold footer and trailer.</summary>
    public int SuffixLength => FooterLength + Size;

    internal void Write(Span<byte> destination)
    {
        var writer = new ByteWriter(destination[..Size]);
        writer.Int64(FooterOffset);
        writer.UInt32((uint)FooterLength);
        writer.UInt32((uint)Count);
        writer.Id32(FooterHash);
        writer.Byte(FormatVersion);
        writer.Byte((byte)Kind);
        writer.UInt16(0);
        writer.UInt32(Crc32C.Compute(destination[..CheckedBytes]));
        writer.Bytes(Magic);
    }

    /// <summary>Reads the trailer from the last 64 bytes of <paramref name="suffix"/>.</summary>
    /// <param name="suffix">The end of the pack, at least 64 bytes.</param>
    /// <param name="packLength">The whole pack, bytes.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>.</exception>
    public static PackTrailer Parse(ReadOnlySpan<byte> suffix, long packLength)
    {
        if (suffix.Length < Size || packLength is < Size or > Limits.PackBytesMax)
        {
            throw FaultException.Malformed($"A pack of {packLength} bytes cannot be whole: its length is out of bounds.");
        }
        var trailer = suffix[^Size..];
        if (!trailer[56..].SequenceEqual(Magic)
            || BinaryPrimitives.ReadUInt32LittleEndian(trailer[CheckedBytes..]) != Crc32C.Compute(trailer[..CheckedBytes]))
        {
            throw FaultException.Malformed("The pack has no valid trailer: it was cut short or damaged.");
        }
        var reader = new ByteReader(trailer, "pack trailer");
        var footerOffset = reader.Int63("footer offset");
        var footerLength = reader.Count(Limits.PackBytesMax, "footer length");
        var count = reader.Count(Limits.PackRecordsMax, "record count");
        var hash = reader.Id32();
        reader.Version(FormatVersion);
        var kind = (RecordKind)reader.Byte();
        reader.Reserved(2);
        if (count == 0 || footerLength != PackFooter.LengthOf(count) || footerOffset != packLength - Size - footerLength
            || kind is not (RecordKind.Data or RecordKind.Map))
        {
            throw FaultException.Malformed("The pack's trailer contradicts the pack's length.");
        }
        return new PackTrailer(footerOffset, footerLength, count, hash, kind);
    }
}
