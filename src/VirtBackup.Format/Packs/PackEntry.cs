using VirtBackup.Core;
using VirtBackup.Format.Records;

namespace VirtBackup.Format.Packs;

/// <summary>One line of a pack's footer: the record's header fields and where the record starts.</summary>
/// <param name="Header">The fields of the record header.</param>
/// <param name="Offset">Byte offset of the record header in the pack.</param>
public readonly record struct PackEntry(RecordHeader Header, uint Offset)
{
    /// <summary>Bytes of an entry in the footer.</summary>
    public const int Size = 64;

    internal void Write(Span<byte> destination)
    {
        var writer = new ByteWriter(destination[..Size]);
        writer.Id32(Header.Id);
        writer.Id16(Header.Scope);
        writer.UInt32(Offset);
        writer.UInt32((uint)Header.SealedLength);
        writer.UInt32((uint)Header.RawLength);
        writer.UInt16(Header.IdGeneration);
        writer.Byte((byte)Header.Kind);
        writer.Byte((byte)Header.Codec);
    }

    internal static PackEntry Read(ReadOnlySpan<byte> source)
    {
        var reader = new ByteReader(source[..Size], "pack footer");
        var id = reader.Id32();
        var scope = reader.Id16();
        var offset = reader.UInt32();
        var stored = reader.Count(Limits.SealedBytesMax, "sealed length");
        var raw = reader.Count(Limits.ChunkBytesMax, "raw length");
        var generation = reader.UInt16();
        var kind = (RecordKind)reader.Byte();
        var codec = (RecordCodec)reader.Byte();
        return new PackEntry(new RecordHeader(kind, codec, raw, stored, id, scope, generation), offset);
    }

    /// <summary>The order of a footer: by id, then scope, as unsigned bytes.</summary>
    internal int CompareName(in PackEntry other)
    {
        var order = Header.Id.CompareTo(other.Header.Id);
        return order != 0 ? order : Header.Scope.CompareTo(other.Header.Scope);
    }
}
