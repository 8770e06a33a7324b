using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Points;
using VirtBackup.Repository.Reading;

namespace VirtBackup.Repository.Scrubbing;

/// <summary>Where a walk is: in which stream of which point, at which byte.</summary>
internal readonly record struct WalkPlace(ManifestHead Head, ManifestStream Stream, long Offset);

/// <summary>
/// Walks the part of points' maps that is not marked complete: that is all that can lack something, and little of a whole
/// point. Reads what it needs and changes nothing.
/// </summary>
internal sealed class IncompleteWalk(IObjectStore store, IDatabase index)
{
    private readonly NodeReader _nodes = new(store, index);

    /// <summary>Told of every leaf that is not complete.</summary>
    public required Func<WalkPlace, MapLeaf, CancellationToken, ValueTask> Leaf { get; init; }

    /// <summary>Told of every node that is lost, and how many bytes it covers; true: it only cannot be read now.</summary>
    public Func<WalkPlace, Id32, long, bool, CancellationToken, ValueTask> Unreadable { get; init; } = static (_, _, _, _, _) => ValueTask.CompletedTask;

    /// <summary>Walks one point; one whose manifest cannot be read is left out.</summary>
    /// <returns>False: its manifest cannot be read.</returns>
    public async ValueTask<bool> WalkAsync(RecoveryPointInfo point, bool isForgotten, CancellationToken cancellationToken)
    {
        ManifestHead head;
        try
        {
            var key = PointKeeper.KeyOf(point, isForgotten);
            head = Manifest.Parse(await store.ReadAllAsync(key, Limits.ManifestBytesMax, cancellationToken)).Head;
        }
        catch (FaultException fault) when (StoreHealth.IsDamage(fault) || StoreHealth.IsUnreadable(fault))
        {
            await store.RequireReadableAsync(cancellationToken);
            return false;
        }
        var scope = await index.ReadAsync(connection => ObjectTable.FindScope(connection, head.Scope), cancellationToken) ?? -1;
        foreach (var stream in head.Streams)
        {
            if (!stream.Root.IsZero)
            {
                await WalkAsync(new WalkPlace(head, stream, 0), scope, stream.Root, stream.Geometry.Root, cancellationToken);
            }
        }
        return true;
    }

    private async ValueTask WalkAsync(WalkPlace at, long scope, Id32 id, MapPlace place, CancellationToken cancellationToken)
    {
        if (await index.ReadAsync(connection => CompleteNodeTable.Find(connection, scope, id, place), cancellationToken) is not null)
        {
            return;
        }
        MapInner inner = default;
        MapLeaf leaf = default;
        try
        {
            var node = await _nodes.ReadAsync(id, cancellationToken);
            if (place.Level == 0)
            {
                leaf = MapLeaf.Parse(node, place);
            }
            else
            {
                inner = MapInner.Parse(node, place);
            }
        }
        catch (FaultException fault) when (StoreHealth.IsDamage(fault))
        {
            await Unreadable(at, id, place.Length, false, cancellationToken);
            return;
        }
        catch (FaultException fault) when (StoreHealth.IsUnreadable(fault))
        {
            await store.RequireReadableAsync(cancellationToken);
            await Unreadable(at, id, place.Length, true, cancellationToken);
            return;
        }
        if (place.Level == 0)
        {
            await Leaf(at, leaf, cancellationToken);
            return;
        }
        for (var i = 0; i < inner.Count; i++)
        {
            if (!inner[i].IsZero)
            {
                await WalkAsync(at with { Offset = at.Offset + (i * place.ChildBytes) }, scope, inner[i], place.Child(i), cancellationToken);
            }
        }
    }
}
