using VirtBackup.Core;

namespace VirtBackup.Format.Maps;

/// <summary>Whether a node lists chunks or nodes.</summary>
public enum MapNodeKind : byte
{
    Leaf = 1,
    Inner = 2,
}

/// <summary>The 16 bytes at the start of every map node.</summary>
/// <param name="Kind">Leaf or inner; agrees with the level.</param>
/// <param name="Level">0 for leaves.</param>
/// <param name="Shape">The map's parameters.</param>
/// <param name="EpochCount">Key epochs that a leaf lists; 0 for inner nodes.</param>
/// <param name="Count">Chunks of a leaf, children of an inner node.</param>
public readonly record struct MapNodeHead(MapNodeKind Kind, int Level, MapShape Shape, int EpochCount, int Count)
{
    /// <summary>Head bytes.</summary>
    public const int Size = 16;

    /// <summary>No map of a stream of <see cref="Limits.DiskBytesMax"/> is higher.</summary>
    public const int LevelMax = 8;

    private static ReadOnlySpan<byte> Magic => "VBMN"u8;

    /// <summary>Bytes of the whole node.</summary>
    public int NodeLength => Kind == MapNodeKind.Inner
        ? Size + (Count * Id32.Size)
        : Size + (EpochCount * Id16.Size) + (Count * ((Shape.Chunker == Chunker.ContentDefined ? 4 : 0) + Id32.Size + Id32.Size + 1));

    /// <summary>Reads the head and requires that the node has exactly the length it calls for.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>, or <see cref="FaultReason.Unsupported"/> for another version.</exception>
    public static MapNodeHead Parse(ReadOnlySpan<byte> node)
    {
        if (node.Length > Limits.NodeBytesMax)
        {
            throw FaultException.Malformed($"A map node of {node.Length} bytes is over the limit.");
        }
        var reader = new ByteReader(node, "map node");
        reader.Expect(Magic, "magic");
        reader.Version(1);
        var kind = (MapNodeKind)reader.Byte();
        var level = reader.Byte();
        var chunker = (Chunker)reader.Byte();
        var spanLog2 = reader.Byte();
        var chunkLog2 = reader.Byte();
        var epochs = reader.UInt16();
        var count = reader.Count(Limits.NodeBytesMax / Id32.Size, "count");
        var head = new MapNodeHead(kind, level, new MapShape(chunker, chunkLog2, spanLog2), epochs, count);
        return head.FindViolation(node.Length) is { } violation
            ? throw FaultException.Malformed($"The map node is not canonical: {violation}.")
            : head;
    }

    internal void Write(ref ByteWriter writer)
    {
        writer.Bytes(Magic);
        writer.Byte(1);
        writer.Byte((byte)Kind);
        writer.Byte((byte)Level);
        writer.Byte((byte)Shape.Chunker);
        writer.Byte(Shape.SpanLog2);
        writer.Byte(Shape.ChunkLog2);
        writer.UInt16((ushort)EpochCount);
        writer.UInt32((uint)Count);
    }

    private string? FindViolation(int nodeLength)
    {
        if (Shape.FindViolation() is { } violation)
        {
            return violation;
        }
        if (Count == 0)
        {
            return "it is empty";
        }
        switch (Kind)
        {
            case MapNodeKind.Leaf:
                if (Level != 0)
                {
                    return "a leaf has a level";
                }
                if (EpochCount is 0 or > Limits.EpochsPerLeafMax)
                {
                    return "its number of key epochs is out of bounds";
                }
                if (Shape.Chunker == Chunker.Fixed && Count > 1 << (Shape.SpanLog2 - Shape.ChunkLog2))
                {
                    return "it lists more chunks than its span has";
                }
                break;
            case MapNodeKind.Inner:
                if (Level is 0 or > LevelMax)
                {
                    return "the level of an inner node is out of bounds";
                }
                if (Count > MapShape.Radix || EpochCount != 0)
                {
                    return "an inner node has too many children or lists key epochs";
                }
                break;
            default:
                return $"kind {(byte)Kind} is unknown";
        }
        return nodeLength == NodeLength ? null : "its length is not what its head calls for";
    }

    internal void RequirePlace(MapPlace place, MapNodeKind kind)
    {
        if (Kind != kind || Level != place.Level)
        {
            throw FaultException.Malformed($"A map node of level {Level} stands where level {place.Level} belongs.");
        }
        if (Shape != place.Shape)
        {
            throw FaultException.Malformed("A map node was made with other chunk or span lengths than its map.");
        }
    }
}
