using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Keys;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Commits;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Points;
using VirtBackup.Repository.Reading;

namespace VirtBackup.Repository.Replication;

/// <summary>
/// What another repository may learn and take from this one: the answers behind an <see cref="IReplicaSource"/>. Who may ask for
/// what is the caller's to judge. Safe for concurrent use.
/// </summary>
public sealed class ReplicaServing
{
    private readonly IObjectStore _store;
    private readonly IDatabase _index;
    private readonly KeyKeeper _keys;
    private readonly AdoptionLog _adoptions;
    private readonly long _generation;
    private readonly int _nodeCacheBytes;

    internal ReplicaServing(IObjectStore store, IDatabase index, KeyKeeper keys, AdoptionLog adoptions, long generation, int nodeCacheBytes)
    {
        _store = store;
        _index = index;
        _keys = keys;
        _adoptions = adoptions;
        _generation = generation;
        _nodeCacheBytes = nodeCacheBytes;
    }

    /// <summary>Behind everything that is here now.</summary>
    public ReplicaCursor Now => new(_generation, _adoptions.Latest);

    /// <summary>
    /// The visible and whole points by machine and sequence, with a cursor for the next call. Behind a cursor of this opening of
    /// the repository, only those that became so since then; behind any other, all.
    /// </summary>
    /// <param name="vms">Only points of these machines; null: of all.</param>
    /// <param name="after">From an earlier listing; the default: from the start.</param>
    /// <param name="cancellationToken">Stops the look-up.</param>
    public async ValueTask<ReplicaListing> ListAsync(IReadOnlySet<Id16>? vms, ReplicaCursor after, CancellationToken cancellationToken)
    {
        // Before the look: what is adopted meanwhile is listed again rather than missed.
        var next = Now;
        var since = after.Generation == _generation ? after.Number : -1;
        if (since == next.Number)
        {
            return new ReplicaListing([], next);
        }
        var points = await _index.ReadAsync(static connection => PointTable.List(connection, null), cancellationToken);
        points.RemoveAll(point => !point.IsComplete || vms?.Contains(point.Vm) == false || _adoptions.NumberOf(point.Point) <= since);
        return new ReplicaListing(points, next);
    }

    /// <summary>Returns as soon as a listing behind that cursor may have something new; at once for a cursor of another opening.</summary>
    public ValueTask WaitAsync(ReplicaCursor after, CancellationToken cancellationToken) =>
        after.Generation == _generation ? _adoptions.WaitAsync(after.Number, cancellationToken) : ValueTask.CompletedTask;

    /// <summary>A point's manifest, with the key objects of all its epochs and the key of its agent.</summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.NotFound"/>: no such point, or none that is visible and whole; <see cref="FaultReason.Corrupt"/>:
    /// one of these objects is damaged.
    /// </exception>
    public async ValueTask<ReplicaPoint> ReadPointAsync(Id16 point, CancellationToken cancellationToken)
    {
        var info = await RequireAsync(point, cancellationToken);
        var manifest = await RecoveryPointReader.ReadManifestAsync(_store, info, cancellationToken);
        var keys = new List<ReadOnlyMemory<byte>>();
        foreach (var epoch in manifest.Head.Epochs)
        {
            var before = keys.Count;
            foreach (var recipient in await _index.ReadAsync(connection => PointTable.ListRecipients(connection, info.Vm, epoch), cancellationToken))
            {
                var bytes = await _store.ReadAllAsync(ObjectKeys.VmKey(info.Vm, epoch, recipient), KeyObject.Size, cancellationToken);
                if (KeyObject.Parse(bytes).Repository == manifest.Head.Repository)
                {
                    keys.Add(bytes);
                }
            }
            if (keys.Count == before)
            {
                throw FaultException.Corrupt($"The recovery point {point} uses the key epoch {epoch}, whose key object is lost. Verify the repository.");
            }
        }
        return new ReplicaPoint(manifest.Bytes, keys, await _keys.ReadAgentKeyAsync(manifest.Head.AgentKeyId, cancellationToken));
    }

    /// <summary>
    /// Opens a visible and whole point. Unlike a reader of <see cref="BackupRepository.OpenPointAsync"/> it finds nodes also when it
    /// has not served their parents: a pull that goes on has them already. Hold the point while the reader is in use.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>; <see cref="FaultReason.Corrupt"/>: its manifest is damaged.</exception>
    public async ValueTask<RecoveryPointReader> OpenAsync(Id16 point, CancellationToken cancellationToken)
    {
        var info = await RequireAsync(point, cancellationToken);
        var manifest = await RecoveryPointReader.ReadManifestAsync(_store, info, cancellationToken);
        return new RecoveryPointReader(_store, _index, manifest, _nodeCacheBytes) { FindsDescendants = true };
    }

    /// <summary>
    /// A record as it is stored, to heal another repository: one that is not in doubt and was not found damaged; null: there is
    /// none. Of a chunk only the header is proven.
    /// </summary>
    /// <exception cref="FaultException">The store failed.</exception>
    public async ValueTask<byte[]?> FindRecordAsync(RecordKind kind, Id32 id, Id16 scope, CancellationToken cancellationToken)
    {
        foreach (var (key, location) in await LocateAsync(kind, id, scope, cancellationToken))
        {
            try
            {
                var record = new byte[location.RecordLength];
                await _store.ReadExactlyAsync(key, location.Position, record, cancellationToken);
                if (RecordHeader.TryParse(record, out var header) && header.Kind == kind && header.Id == id && header.Scope == scope && header.RecordLength == record.Length
                    && (kind == RecordKind.Data || NodeId.Compute(record.AsSpan(RecordHeader.Size)) == id))
                {
                    return record;
                }
            }
            catch (FaultException fault) when (fault.Reason is FaultReason.NotFound or FaultReason.Corrupt or FaultReason.Malformed)
            {
                // It moved, or another copy is sound.
            }
        }
        return null;
    }

    private ValueTask<List<(string Key, ObjectLocation Location)>> LocateAsync(RecordKind kind, Id32 id, Id16 scope, CancellationToken cancellationToken) =>
        _index.ReadAsync(
            connection =>
            {
                var locations = new List<ObjectLocation>();
                var found = new List<(string, ObjectLocation)>();
                if (ObjectTable.FindScope(connection, scope) is { } number)
                {
                    ObjectTable.FindLocations(connection, kind, number, id, locations);
                }
                foreach (var location in locations)
                {
                    if (!location.IsDoubtful && PackTable.FindHash(connection, location.Pack) is { } hash)
                    {
                        found.Add((ObjectKeys.Pack(hash), location));
                    }
                }
                return found;
            },
            cancellationToken);

    private async ValueTask<RecoveryPointInfo> RequireAsync(Id16 point, CancellationToken cancellationToken) =>
        await _index.ReadAsync(connection => PointTable.Find(connection, point), cancellationToken) is { IsComplete: true } info
            ? info
            : throw new FaultException(FaultReason.NotFound, $"There is no whole recovery point {point} in the repository.");
}

/// <summary>Points of a repository, and where the next listing goes on.</summary>
public sealed record ReplicaListing(IReadOnlyList<RecoveryPointInfo> Points, ReplicaCursor Next);

/// <summary>A place in the order in which a repository got its points, good for as long as it stays open.</summary>
/// <param name="Generation">Of the owner.</param>
/// <param name="Number">Of the latest point.</param>
public readonly record struct ReplicaCursor(long Generation, long Number);
