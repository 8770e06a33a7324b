using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Format.Maps;

namespace VirtBackup.Agent.Capture;

/// <summary>The chunks of one leaf that must be read: bit i % 64 of word i / 64.</summary>
internal readonly record struct TouchedSpan(long Leaf, ulong[] Chunks)
{
    public bool IsTouched(int chunk) => (Chunks[chunk >> 6] & (1UL << (chunk & 63))) != 0;
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
            var shape = geometry.Shape;
            var last = (extent.End - 1) >> shape.ChunkLog2;
            for (var chunk = extent.Offset >> shape.ChunkLog2; chunk <= last; chunk++)
            {
                var leaf = chunk >> (shape.SpanLog2 - shape.ChunkLog2);
                if (group.Count == 0 || group[^1].Leaf != leaf)
                {
                    if (group.Count > 0 && group[0].Leaf / MapShape.Radix != leaf / MapShape.Radix)
                    {
                        yield return group;
                        group = new List<TouchedSpan>(MapShape.Radix);
                    }
                    group.Add(new TouchedSpan(leaf, new ulong[((1 << (shape.SpanLog2 - shape.ChunkLog2)) + 63) / 64]));
                }
                var inLeaf = (int)(chunk - (leaf << (shape.SpanLog2 - shape.ChunkLog2)));
                group[^1].Chunks[inLeaf >> 6] |= 1UL << (inLeaf & 63);
            }
        }
        if (group.Count > 0)
        {
            yield return group;
        }
    }
}
