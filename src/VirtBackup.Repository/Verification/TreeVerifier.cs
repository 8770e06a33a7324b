using System.Buffers;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Reading;

namespace VirtBackup.Repository.Verification;

/// <summary>
/// Walks the map of a stream and finds which of its bytes are lost: nodes that cannot be read, chunks that are missing,
/// damaged, or do not open. Trees and chunks found sound a short while ago are not checked again.
/// </summary>
internal sealed class TreeVerifier(IObjectStore store, IDatabase index, DamageLog log, PackDamage damage, IChunkOpener? opener)
{
    private const int RememberedNodes = 1 << 19;
    private const int RememberedChunks = 1 << 20;

    private readonly NodeReader _nodes = new(store, index);
    private readonly RecentSet<(Id32, MapPlace, Id16 Scope)> _soundNodes = new(RememberedNodes);
    private readonly RecentSet<(Id32, int Length, Id16 Scope)> _openedChunks = new(RememberedChunks);

    public long ChunksOpened { get; private set; }

    /// <param name="head">Of the manifest.</param>
    /// <param name="stream">One of its streams.</param>
    /// <param name="lockedEpochs">Epochs whose key objects are damaged: their chunks are checked without keys, so that no pack is blamed.</param>
    /// <param name="cancellationToken">Stops the work.</param>
    public async ValueTask VerifyAsync(ManifestHead head, ManifestStream stream, IReadOnlySet<Id16> lockedEpochs, CancellationToken cancellationToken)
    {
        if (!stream.Root.IsZero)
        {
            await WalkAsync(new Place(head, stream.Id, lockedEpochs, 0), stream.Root, stream.Geometry.Root, cancellationToken);
        }
    }

    private async ValueTask<bool> WalkAsync(Place at, Id32 id, MapPlace place, CancellationToken cancellationToken)
    {
        if (_soundNodes.Contains((id, place, at.Head.Scope)))
        {
            return true;
        }
        bool isSound;
        try
        {
            var node = await _nodes.ReadAsync(id, cancellationToken);
            isSound = place.Level == 0
                ? await CheckLeafAsync(at, MapLeaf.Parse(node, place), cancellationToken)
                : await WalkChildrenAsync(at, MapInner.Parse(node, place), place, cancellationToken);
        }
        catch (FaultException fault) when (StoreHealth.IsDamage(fault))
        {
            var entry = await FindNodeDamageAsync(id, cancellationToken) ?? log.Add(at.ManifestKey, $"Its map cannot be read: {fault.Message}");
            entry.Affect(at.Loss(place.Length));
            return false;
        }
        if (isSound)
        {
            _soundNodes.Add((id, place, at.Head.Scope));
        }
        return isSound;
    }

    private async ValueTask<bool> WalkChildrenAsync(Place at, MapInner inner, MapPlace place, CancellationToken cancellationToken)
    {
        var isSound = true;
        for (var i = 0; i < inner.Count; i++)
        {
            if (!inner[i].IsZero)
            {
                isSound &= await WalkAsync(at with { Offset = at.Offset + (i * place.ChildBytes) }, inner[i], place.Child(i), cancellationToken);
            }
        }
        return isSound;
    }

    private async ValueTask<bool> CheckLeafAsync(Place at, MapLeaf leaf, CancellationToken cancellationToken)
    {
        var copies = await LocateAsync(at.Head.Scope, leaf, cancellationToken);
        var isSound = true;
        for (var i = 0; i < leaf.Count; i++)
        {
            var entry = leaf[i];
            if (!entry.IsZero && await FindDamageAsync(at, entry, copies[i], cancellationToken) is { } found)
            {
                found.Affect(at.Loss(entry.Length));
                isSound = false;
            }
            at = at with { Offset = at.Offset + entry.Length };
        }
        return isSound;
    }

    /// <summary>Null when one copy of the chunk is sound.</summary>
    private async ValueTask<DamageLog.Entry?> FindDamageAsync(Place at, MapEntry entry, List<Copy> copies, CancellationToken cancellationToken)
    {
        if (_openedChunks.Contains((entry.Id, entry.Length, at.Head.Scope)))
        {
            return null;
        }
        DamageLog.Entry? found = null;
        var opens = opener?.Opens(at.Head.Repository) == true && !at.LockedEpochs.Contains(entry.EpochId);
        foreach (var copy in copies)
        {
            if (damage.Find(copy.Location) is { } known)
            {
                found = known;
                // A pack whose bytes changed somewhere may still hold this chunk unchanged: opening it tells.
                if (!opens || damage.Records.ContainsKey((copy.Location.Pack, copy.Location.Position)))
                {
                    continue;
                }
            }
            if (!opens || await OpenAsync(at, entry, copy, cancellationToken) is not { } refusal)
            {
                return null;
            }
            found = refusal;
        }
        return found ?? log.Add(at.ManifestKey, $"The chunk {entry.Id} that its map names is not in the repository.");
    }

    private async ValueTask<DamageLog.Entry?> OpenAsync(Place at, MapEntry entry, Copy copy, CancellationToken cancellationToken)
    {
        var record = ArrayPool<byte>.Shared.Rent(copy.Location.RecordLength);
        try
        {
            var bytes = record.AsMemory(0, copy.Location.RecordLength);
            await store.ReadExactlyAsync(copy.PackKey, copy.Location.Position, bytes, cancellationToken);
            await opener!.OpenAsync(at.Head.Vm, entry, bytes, cancellationToken);
            ChunksOpened++;
            _openedChunks.Add((entry.Id, entry.Length, at.Head.Scope));
            return null;
        }
        catch (FaultException fault) when (StoreHealth.IsDamage(fault))
        {
            return log.Add(copy.PackKey, $"The chunk at byte {copy.Location.Position} is damaged: {fault.Message}");
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.Denied)
        {
            // The record may be sound; this point cannot be restored by it.
            return log.Add(at.ManifestKey, $"Its map names a chunk that does not open: {fault.Message}");
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(record);
        }
    }

    /// <summary>For every entry of the leaf, the copies of the right length.</summary>
    private ValueTask<List<Copy>[]> LocateAsync(Id16 scope, MapLeaf leaf, CancellationToken cancellationToken) =>
        index.ReadAsync(
            connection =>
            {
                var copies = new List<Copy>[leaf.Count];
                var locations = new List<ObjectLocation>();
                var number = ObjectTable.FindScope(connection, scope) ?? -1;
                for (var i = 0; i < copies.Length; i++)
                {
                    copies[i] = [];
                    locations.Clear();
                    if (!leaf.IdAt(i).IsZero)
                    {
                        ObjectTable.FindLocations(connection, RecordKind.Data, number, leaf.IdAt(i), locations);
                    }
                    foreach (var location in locations)
                    {
                        if (location.RawLength == leaf.LengthAt(i) && PackTable.FindHash(connection, location.Pack) is { } hash)
                        {
                            copies[i].Add(new Copy(location, ObjectKeys.Pack(hash)));
                        }
                    }
                }
                return copies;
            },
            cancellationToken);

    /// <summary>The damage of a pack that explains why a node cannot be read.</summary>
    private ValueTask<DamageLog.Entry?> FindNodeDamageAsync(Id32 id, CancellationToken cancellationToken) =>
        index.ReadAsync(
            connection =>
            {
                var locations = new List<ObjectLocation>();
                if (ObjectTable.FindScope(connection, Id16.Empty) is { } scope)
                {
                    ObjectTable.FindLocations(connection, RecordKind.Map, scope, id, locations);
                }
                return locations.Select(damage.Find).FirstOrDefault(found => found is not null);
            },
            cancellationToken);

    private readonly record struct Copy(ObjectLocation Location, string PackKey);

    private readonly record struct Place(ManifestHead Head, Id16 Stream, IReadOnlySet<Id16> LockedEpochs, long Offset)
    {
        public string ManifestKey => ObjectKeys.Manifest(Head.Vm, Head.Point);

        public AffectedRange Loss(long length) => new(Head.Vm, Head.Point, Stream, new ByteRange(Offset, length));
    }
}
