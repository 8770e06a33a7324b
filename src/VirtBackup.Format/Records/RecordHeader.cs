using System.Buffers.Binary;
using VirtBackup.Core;

namespace VirtBackup.Format.Records;

/// <summary>What a record holds. A pack holds records of one kind only.</summary>
public enum RecordKind : byte
{
    /// <summary>A sealed chunk.</summary>
    Data = 1,
    /// <summary>A map node, in clear: leaves and inner nodes are authenticated by their ids.</summary>
    Map = 2,
}

/// <summary>How a record's plaintext was packed before sealing.</summary>
public enum RecordCodec : byte
{
    Raw = 0,
    Zstd = 1,
}

/// <summary>
/// The 76 bytes in front of every stored record (FORMAT.md, "Record"). Records cross the wire and move between packs
/// verbatim. <see cref="Write"/> produces only what <see cref="TryParse"/> accepts.
/// </summary>
/// <param name="Kind">Data or map.</param>
/// <param name="Codec">Packing of the plaintext; always raw for maps.</param>
/// <param name="RawLength">Plaintext bytes.</param>
/// <param name="SealedLength">Payload bytes that follow the header.</param>
/// <param name="Id">Chunk or node id, never zero.</param>
/// <param name="Scope">Within which chunks are shared; empty for maps.</param>
/// <param name="IdGeneration">Generation of the id key; 0 for maps.</param>
public readonly record struct RecordHeader(
    RecordKind Kind, RecordCodec Codec, int RawLength, int SealedLength, Id32 Id, Id16 Scope, ushort IdGeneration)
{
    /// <summary>Header bytes.</summary>
    public const int Size = 76;

    /// <summary>The part of the header in front of its CRC: the additional authenticated data of a sealed chunk.</summary>
    public const int AuthenticatedBytes = 72;

    /// <summary>Nonce in front of a sealed chunk's ciphertext.</summary>
    public const int NonceBytes = 12;

    /// <summary>Tag behind a sealed chunk's ciphertext.</summary>
    public const int TagBytes = 16;

    /// <summary>What sealing adds to the packed plaintext.</summary>
    public const int SealingBytes = NonceBytes + TagBytes;

    /// <summary>The longest record: header and payload.</summary>
    public const int RecordBytesMax = Size + Limits.SealedBytesMax;

    private const byte FormatVersion = 1;

    private static ReadOnlySpan<byte> Magic => "VBREC\r\n\x1a"u8;

    /// <summary>Header and payload bytes.</summary>
    public int RecordLength => Size + SealedLength;

    /// <summary>The header of a map node.</summary>
    public static RecordHeader ForNode(Id32 id, int length) => new(RecordKind.Map, RecordCodec.Raw, length, length, id, default, 0);

    /// <summary>Writes header and CRC to the start of <paramref name="destination"/>.</summary>
    public void Write(Span<byte> destination)
    {
        Check.That(FindViolation() is null);
        var writer = new ByteWriter(destination[..Size]);
        writer.Bytes(Magic);
        writer.Byte(FormatVersion);
        writer.Byte((byte)Kind);
        writer.Byte((byte)Codec);
        writer.Byte(0);
        writer.UInt32((uint)RawLength);
        writer.UInt32((uint)SealedLength);
        writer.Id32(Id);
        writer.Id16(Scope);
        writer.UInt16(IdGeneration);
        writer.UInt16(0);
        writer.UInt32(Crc32C.Compute(destination[..AuthenticatedBytes]));
    }

    /// <summary>Reads a header from the start of <paramref name="source"/>; false when it is short or not canonical.</summary>
    public static bool TryParse(ReadOnlySpan<byte> source, out RecordHeader header) => Read(source, out header) is null;

    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>: not a record header; the message says why.</exception>
    public static RecordHeader Parse(ReadOnlySpan<byte> source) =>
        Read(source, out var header) is { } violation ? throw FaultException.Malformed($"Not a record header: {violation}.") : header;

    private static string? Read(ReadOnlySpan<byte> source, out RecordHeader header)
    {
        header = default;
        if (source.Length < Size)
        {
            return "it is shorter than 76 bytes";
        }
        if (!source[..8].SequenceEqual(Magic))
        {
            return "its magic is missing";
        }
        if (BinaryPrimitives.ReadUInt32LittleEndian(source[AuthenticatedBytes..]) != Crc32C.Compute(source[..AuthenticatedBytes]))
        {
            return "its checksum does not match";
        }
        if (source[8] != FormatVersion)
        {
            return $"its version is {source[8]}";
        }
        if (source[11] != 0 || source[70] != 0 || source[71] != 0)
        {
            return "a reserved byte is not zero";
        }
        var raw = BinaryPrimitives.ReadUInt32LittleEndian(source[12..]);
        var stored = BinaryPrimitives.ReadUInt32LittleEndian(source[16..]);
        if (raw > Limits.ChunkBytesMax || stored > Limits.SealedBytesMax)
        {
            return "a length is over its limit";
        }
        var read = new RecordHeader((RecordKind)source[9], (RecordCodec)source[10], (int)raw, (int)stored, Id32.Read(source[20..]),
            Id16.Read(source[52..]), BinaryPrimitives.ReadUInt16LittleEndian(source[68..]));
        if (read.FindViolation() is { } violation)
        {
            return violation;
        }
        header = read;
        return null;
    }

    /// <summary>The rule that the fields break, or null. Pack footers hold the same fields to the same rules.</summary>
    internal string? FindViolation()
    {
        if (Id.IsZero)
        {
            return "its id is zero";
        }
        switch (Kind)
        {
            case RecordKind.Data:
                if (RawLength is < 1 or > Limits.ChunkBytesMax)
                {
                    return "its chunk length is out of bounds";
                }
                return Codec switch
                {
                    RecordCodec.Raw => SealedLength == RawLength + SealingBytes ? null : "its lengths disagree",
                    RecordCodec.Zstd => SealedLength > SealingBytes && SealedLength < RawLength + SealingBytes
                        ? null : "it is compressed but not shorter",
                    _ => "its codec is unknown",
                };
            case RecordKind.Map:
                if (Codec != RecordCodec.Raw || SealedLength != RawLength || !Scope.IsEmpty || IdGeneration != 0)
                {
                    return "a map node must be raw and without a scope";
                }
                return RawLength is > 0 and <= Limits.NodeBytesMax ? null : "its node length is out of bounds";
            default:
                return "its kind is unknown";
        }
    }
}
