using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Format.Maps;

namespace VirtBackup.Agent.Capture;

/// <summary>
/// The granules of one leaf that must be read: bit i % 64 of word i / 64. A granule is a chunk where all have one length, and
/// a quarter of the average chunk where they have not.
/// </summary>
internal readonly record struct TouchedSpan(long Leaf, ulong[] Granules)
{
    public static int GranuleLog2Of(MapShape shape) =>
        shape.Chunker == Chunker.Fixed ? shape.ChunkLog2 : Math.Max(MapShape.ChunkLog2Min, shape.ChunkLog2 - 2);

    public bool IsTouched(int granule) => (Granules[granule >> 6] & (1UL << (granule & 63))) != 0;

    /// <summary>Whether any granule with a byte in [start, end) is touched.</summary>
    public bool IsAnyTouched(long start, long end, int granuleLog2)
    {
        var last = (int)Math.Min((end - 1) >> granuleLog2, (Granules.Length * 64) - 1);
        for (var granule = (int)(start >> granuleLog2); granule <= last; granule++)
        {
            if (IsTouched(granule))
            {
                return true;
            }
        }
        return false;
    }
}

/// <summary>Turns a disk's extents into touched leaves, grouped by the leaves' parents, in ascending order.</summary>
internal static class SpanPlanner
{
    /// <param name="extents">Ascending, not overlapping.</param>
    /// <param name="geometry">The disk's map.</param>
    /// <returns>Groups of at most 64 leaves that share a parent.</returns>
    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>: an extent is out of order or outside the disk.</exception>
    public static async IAsyncEnumerable<IReadOnlyList<TouchedSpan>> PlanAsync(
        IAsyncEnumerable<ByteRange> extents, MapGeometry geometry, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var group = new List<TouchedSpan>(MapShape.Radix);
        long end = 0;
        await foreach (var extent in extents.WithCancellation(cancellationToken))
        {
            if (extent.Offset < end || extent.Length <= 0 || extent.Length > geometry.StreamLength - extent.Offset)
            {
                throw FaultException.Malformed($"The hypervisor reported an extent of {extent.Length} bytes at {extent.Offset}, out of order or outside a disk of {geometry.StreamLength} bytes.");
            }
            end = extent.End;
            var granuleLog2 = TouchedSpan.GranuleLog2Of(geometry.Shape);
            var perLeafLog2 = geometry.Shape.SpanLog2 - granuleLog2;
            var last = (extent.End - 1) >> granuleLog2;
            for (var granule = extent.Offset >> granuleLog2; granule <= last; granule++)
            {
                var leaf = granule >> perLeafLog2;
                if (group.Count == 0 || group[^1].Leaf != leaf)
                {
                    if (group.Count > 0 && group[0].Leaf / MapShape.Radix != leaf / MapShape.Radix)
                    {
                        yield return group;
                        group = new List<TouchedSpan>(MapShape.Radix);
                    }
                    group.Add(new TouchedSpan(leaf, new ulong[((1 << perLeafLog2) + 63) / 64]));
                }
                var inLeaf = (int)(granule - (leaf << perLeafLog2));
                group[^1].Granules[inLeaf >> 6] |= 1UL << (inLeaf & 63);
            }
        }
        if (group.Count > 0)
        {
            yield return group;
        }
    }
}
