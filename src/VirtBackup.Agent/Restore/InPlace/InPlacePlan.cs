using System.Runtime.CompilerServices;
using VirtBackup.Agent.Records;
using VirtBackup.Core;
using VirtBackup.Format.Maps;

namespace VirtBackup.Agent.Restore.InPlace;

/// <summary>What an existing disk is known to hold: the map of a recovery point, but for the extents that changed since.</summary>
/// <param name="Root">The map's root, proven; its geometry is that of the map to be restored.</param>
internal sealed record KnownContent(NodeSource Nodes, Id32 Root, SortedExtents Changed);

/// <summary>
/// Walks the map of a recovery point beside what the disk is known to hold, passes over what is equal in both and did not
/// change, and has the rest compared.
/// </summary>
internal sealed class InPlacePlan(NodeSource nodes, MapGeometry geometry, Id32 root, KnownContent? known, DiskComparison comparison, ComparisonCounts counts)
{
    /// <summary>The leaves with chunks that must be written.</summary>
    public IAsyncEnumerable<PlannedLeaf> ReadAsync(CancellationToken cancellationToken) =>
        geometry.StreamLength == 0 ? AsyncEnumerable.Empty<PlannedLeaf>() : WalkAsync(geometry.Height, [new Place(0, root, known?.Root)], cancellationToken);

    private async IAsyncEnumerable<PlannedLeaf> WalkAsync(int level, List<Place> places, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var visited = places.FindAll(place => !IsKnownEqual(level, place));
        var target = await ReadAsync(nodes, visited.Where(place => !place.Id.IsZero).Select(place => place.Id), cancellationToken);
        var former = known is null ? []
            : await ReadAsync(known.Nodes, visited.Where(place => place is { Id.IsZero: false, Known.IsZero: false } && place.Known != place.Id).Select(place => place.Known!.Value), cancellationToken);
        foreach (var place in visited)
        {
            if (place.Id.IsZero)
            {
                await ClearAsync(level, place, cancellationToken);
                continue;
            }
            var node = target[place.Id];
            var formerNode = place.Known is { IsZero: false } id && id != place.Id ? former[id] : default;
            if (level == 0)
            {
                yield return await CompareLeafAsync(place, node, formerNode, cancellationToken);
                continue;
            }
            var inner = MapInner.Parse(node, geometry.PlaceOf(level, place.Index));
            var formerInner = formerNode.IsEmpty ? (MapInner?)null : MapInner.Parse(formerNode, geometry.PlaceOf(level, place.Index));
            var children = new List<Place>(inner.Count);
            for (var child = 0; child < inner.Count; child++)
            {
                var below = place.Known is null ? (Id32?)null : place.Known == place.Id ? inner[child] : formerInner?[child] ?? Id32.Zero;
                children.Add(new Place((place.Index * MapShape.Radix) + child, inner[child], below));
            }
            await foreach (var leaf in WalkAsync(level - 1, children, cancellationToken))
            {
                yield return leaf;
            }
        }
    }

    private bool IsKnownEqual(int level, Place place)
    {
        var range = RangeOf(level, place);
        if (known is null || place.Known != place.Id || known.Changed.Touches(range))
        {
            return false;
        }
        counts.AddSkipped(range.Length);
        return true;
    }

    private async Task ClearAsync(int level, Place place, CancellationToken cancellationToken)
    {
        var range = RangeOf(level, place);
        if (place.Known is not { IsZero: true })
        {
            await comparison.ClearAsync(range, cancellationToken);
            return;
        }
        var skipped = range.Length;
        foreach (var part in known!.Changed.Within(range))
        {
            skipped -= part.Length;
            await comparison.ClearAsync(part, cancellationToken);
        }
        counts.AddSkipped(skipped);
    }

    private async Task<PlannedLeaf> CompareLeafAsync(Place place, ReadOnlyMemory<byte> node, ReadOnlyMemory<byte> formerNode, CancellationToken cancellationToken)
    {
        var leaf = MapLeaf.Parse(node, geometry.PlaceOf(0, place.Index));
        var former = formerNode.IsEmpty ? [] : ReadEntries(MapLeaf.Parse(formerNode, geometry.PlaceOf(0, place.Index)));
        var start = geometry.OffsetOf(0, place.Index);
        var candidates = new bool[leaf.Count];
        var offset = 0L;
        for (var i = 0; i < leaf.Count; i++)
        {
            var length = leaf.LengthAt(i);
            var equalBefore = place.Known is { } id
                && (id == place.Id || (id.IsZero ? leaf.IdAt(i).IsZero : former.TryGetValue(offset, out var entry) && entry == (length, leaf.IdAt(i))));
            candidates[i] = !equalBefore || known!.Changed.Touches(new ByteRange(start + offset, length));
            offset += length;
        }
        return new PlannedLeaf(start, leaf, await comparison.CompareAsync(leaf, start, candidates, cancellationToken));
    }

    private static Dictionary<long, (int Length, Id32 Id)> ReadEntries(MapLeaf leaf)
    {
        var entries = new Dictionary<long, (int, Id32)>(leaf.Count);
        var offset = 0L;
        for (var i = 0; i < leaf.Count; i++)
        {
            entries.Add(offset, (leaf.LengthAt(i), leaf.IdAt(i)));
            offset += leaf.LengthAt(i);
        }
        return entries;
    }

    private static async Task<Dictionary<Id32, ReadOnlyMemory<byte>>> ReadAsync(NodeSource source, IEnumerable<Id32> ids, CancellationToken cancellationToken)
    {
        var distinct = ids.Distinct().ToArray();
        return distinct.Length == 0 ? [] : distinct.Zip(await source.ReadAsync(distinct, cancellationToken)).ToDictionary();
    }

    private ByteRange RangeOf(int level, Place place) => new(geometry.OffsetOf(level, place.Index), geometry.PlaceOf(level, place.Index).Length);

    /// <param name="Known">The id of the node at this place in the known content's map; null: the content is not known.</param>
    private readonly record struct Place(long Index, Id32 Id, Id32? Known);
}
