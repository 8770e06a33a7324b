using System.Runtime.CompilerServices;
using VirtBackup.Agent.Records;
using VirtBackup.Core;
using VirtBackup.Format.Maps;

namespace VirtBackup.Agent.Restore;

/// <summary>Walks a stream's map from its proven root, leaves in order; zero subtrees are not visited.</summary>
internal sealed class MapReader(NodeSource nodes, MapGeometry geometry, Id32 root)
{
    /// <summary>The leaves that are not all zero, with their numbers, ascending.</summary>
    public IAsyncEnumerable<(long Index, MapLeaf Leaf)> ReadLeavesAsync(CancellationToken cancellationToken) =>
        root.IsZero ? AsyncEnumerable.Empty<(long, MapLeaf)>() : ReadBelowAsync(geometry.Height, [(0, root)], cancellationToken);

    /// <summary>The same leaves, all of whose chunks are to be written.</summary>
    public async IAsyncEnumerable<PlannedLeaf> PlanAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await foreach (var (index, leaf) in ReadLeavesAsync(cancellationToken))
        {
            yield return new PlannedLeaf(geometry.OffsetOf(0, index), leaf, null);
        }
    }

    private async IAsyncEnumerable<(long Index, MapLeaf Leaf)> ReadBelowAsync(
        int level, List<(long Index, Id32 Id)> group, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var read = await nodes.ReadAsync([.. group.Select(node => node.Id)], cancellationToken);
        for (var i = 0; i < group.Count; i++)
        {
            var index = group[i].Index;
            if (level == 0)
            {
                yield return (index, MapLeaf.Parse(read[i], geometry.PlaceOf(0, index)));
                continue;
            }
            var inner = MapInner.Parse(read[i], geometry.PlaceOf(level, index));
            var children = new List<(long, Id32)>(inner.Count);
            for (var child = 0; child < inner.Count; child++)
            {
                if (!inner[child].IsZero)
                {
                    children.Add(((index * MapShape.Radix) + child, inner[child]));
                }
            }
            await foreach (var leaf in ReadBelowAsync(level - 1, children, cancellationToken))
            {
                yield return leaf;
            }
        }
    }
}
