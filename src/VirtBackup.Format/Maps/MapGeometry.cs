using VirtBackup.Core;

namespace VirtBackup.Format.Maps;

/// <summary>
/// Where a node belongs: its level (leaf 0) and how many bytes of the stream it covers. A node's type follows from its
/// place and is never taken from the node itself.
/// </summary>
/// <param name="Shape">The map's parameters.</param>
/// <param name="Level">0 for leaves; an inner node's children are one level lower.</param>
/// <param name="Length">Covered bytes, more than 0; less than the full coverage only at the stream's end.</param>
public readonly record struct MapPlace(MapShape Shape, int Level, long Length)
{
    /// <summary>Bytes that one child of this inner node covers (the last may cover fewer).</summary>
    public long ChildBytes => 1L << (Shape.SpanLog2 + (MapShape.RadixLog2 * (Level - 1)));

    /// <summary>Children of this inner node: 1 to 64.</summary>
    public int ChildCount => (int)MapGeometry.DivideUp(Length, ChildBytes);

    /// <summary>Chunks of this leaf of a map with fixed chunks.</summary>
    public int FixedChunkCount => (int)MapGeometry.DivideUp(Length, Shape.ChunkBytes);

    /// <summary>Where child <paramref name="index"/> of this inner node belongs.</summary>
    public MapPlace Child(int index)
    {
        Check.That(Level > 0 && (uint)index < (uint)ChildCount);
        return new MapPlace(Shape, Level - 1, Math.Min(ChildBytes, Length - (index * ChildBytes)));
    }
}

/// <summary>
/// The form of the map of a stream: everything follows from its length and <see cref="MapShape"/>. A stream of no bytes
/// has a zero root, height 0, and no nodes. Height 0 otherwise means that a single leaf is the root.
/// </summary>
public readonly record struct MapGeometry
{
    /// <param name="shape">Valid parameters.</param>
    /// <param name="streamLength">Bytes, at most <see cref="Limits.DiskBytesMax"/>.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>: a parameter is out of bounds.</exception>
    public MapGeometry(MapShape shape, long streamLength)
    {
        if (shape.FindViolation() is { } violation)
        {
            throw FaultException.Malformed($"The map's parameters are not valid: {violation}.");
        }
        if (streamLength is < 0 or > Limits.DiskBytesMax)
        {
            throw FaultException.Malformed($"A stream of {streamLength} bytes is out of bounds.");
        }
        Shape = shape;
        StreamLength = streamLength;
        LeafCount = DivideUp(streamLength, shape.SpanBytes);
        for (var nodes = LeafCount; nodes > 1; nodes = DivideUp(nodes, MapShape.Radix))
        {
            Height++;
        }
    }

    public MapShape Shape { get; }

    /// <summary>Bytes of the stream.</summary>
    public long StreamLength { get; }

    /// <summary>Level of the root.</summary>
    public int Height { get; }

    /// <summary>Leaves, counting those that are all zero and therefore not stored.</summary>
    public long LeafCount { get; }

    /// <summary>Where the root belongs; the stream must have bytes.</summary>
    public MapPlace Root => PlaceOf(Height, 0);

    /// <summary>Bytes that a full node of <paramref name="level"/> covers.</summary>
    public long CoverageOf(int level)
    {
        Check.That((uint)level <= (uint)Height);
        return 1L << (Shape.SpanLog2 + (MapShape.RadixLog2 * level));
    }

    /// <summary>Nodes of <paramref name="level"/>, counting those that are all zero.</summary>
    public long NodeCountOf(int level) => DivideUp(StreamLength, CoverageOf(level));

    /// <summary>The place of node <paramref name="index"/> of <paramref name="level"/>, counted from the stream's start.</summary>
    public MapPlace PlaceOf(int level, long index)
    {
        Check.That(index >= 0 && index < NodeCountOf(level));
        var coverage = CoverageOf(level);
        return new MapPlace(Shape, level, Math.Min(coverage, StreamLength - (index * coverage)));
    }

    /// <summary>The first byte of the stream that node <paramref name="index"/> of <paramref name="level"/> covers.</summary>
    public long OffsetOf(int level, long index) => index * CoverageOf(level);

    /// <summary>The node of <paramref name="level"/> that covers byte <paramref name="offset"/>.</summary>
    public long IndexOf(int level, long offset)
    {
        Check.That(offset >= 0 && offset < StreamLength);
        return offset / CoverageOf(level);
    }

    internal static long DivideUp(long value, long divisor) => (value / divisor) + (value % divisor != 0 ? 1 : 0);
}
