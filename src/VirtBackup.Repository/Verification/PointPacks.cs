using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Reading;

namespace VirtBackup.Repository.Verification;

/// <summary>
/// Finds the packs in which a recovery point lies: every copy of its map nodes and of its chunks. What cannot be read on
/// the way is left out: the verification that follows names it. Use an instance once.
/// </summary>
internal sealed class PointPacks(IObjectStore store, IDatabase index)
{
    private const int RememberedNodes = 1 << 19;

    private readonly NodeReader _nodes = new(store, index);
    private readonly RecentSet<(Id32, MapPlace)> _walked = new(RememberedNodes);
    private readonly SortedSet<long> _packs = [];

    /// <summary>The packs' numbers in the index, ascending.</summary>
    public async ValueTask<IReadOnlyCollection<long>> FindAsync(ManifestHead head, CancellationToken cancellationToken)
    {
        foreach (var stream in head.Streams)
        {
            if (!stream.Root.IsZero)
            {
                await WalkAsync(head.Scope, stream.Root, stream.Geometry.Root, cancellationToken);
            }
        }
        return _packs;
    }

    private async ValueTask WalkAsync(Id16 scope, Id32 id, MapPlace place, CancellationToken cancellationToken)
    {
        if (_walked.Contains((id, place)))
        {
            return;
        }
        _walked.Add((id, place));
        await AddAsync(RecordKind.Map, Id16.Empty, [id], cancellationToken);
        try
        {
            var node = await _nodes.ReadAsync(id, cancellationToken);
            if (place.Level == 0)
            {
                var leaf = MapLeaf.Parse(node, place);
                await AddAsync(RecordKind.Data, scope, [.. Enumerable.Range(0, leaf.Count).Select(leaf.IdAt)], cancellationToken);
                return;
            }
            var inner = MapInner.Parse(node, place);
            for (var i = 0; i < inner.Count; i++)
            {
                if (!inner[i].IsZero)
                {
                    await WalkAsync(scope, inner[i], place.Child(i), cancellationToken);
                }
            }
        }
        catch (FaultException fault) when (StoreHealth.IsDamage(fault))
        {
            // Whoever verifies the tree says so.
        }
    }

    private async ValueTask AddAsync(RecordKind kind, Id16 scope, Id32[] ids, CancellationToken cancellationToken) =>
        _packs.UnionWith(await index.ReadAsync(
            connection =>
            {
                var locations = new List<ObjectLocation>();
                if (ObjectTable.FindScope(connection, scope) is { } number)
                {
                    foreach (var id in ids)
                    {
                        if (!id.IsZero)
                        {
                            ObjectTable.FindLocations(connection, kind, number, id, locations);
                        }
                    }
                }
                return locations.Select(static location => location.Pack).ToHashSet();
            },
            cancellationToken));
}
