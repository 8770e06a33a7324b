using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Keys;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Commits;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Ingest;
using VirtBackup.Repository.Reading;

namespace VirtBackup.Repository.Replication;

/// <summary>
/// Pulls recovery points from another repository: manifest, keys, then from the roots down what is not here; then it is committed
/// as a backup is. A pull that is cut off leaves records that no point needs yet: the next one finds them. Safe for concurrent use.
/// </summary>
internal sealed class ReplicaIntake(ReplicaIntakeParts parts)
{
    private const int RecordCallsMax = 16;
    private const int TriesMax = 8;

    /// <summary>Key objects of one epoch that a source may send: one for each recipient.</summary>
    private const int KeysPerEpochMax = 8;

    public async ValueTask<ReplicaReport> PullAsync(IReplicaSource source, ReplicaWish wish, ReplicaOptions options, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(wish);
        ArgumentNullException.ThrowIfNull(options);
        if (options.RecordCalls is < 1 or > RecordCallsMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"1 to {RecordCallsMax} calls for records may be under way at the same time.");
        }
        await parts.Committer.RequireNotForgottenAsync(wish.Point, cancellationToken);
        var known = await parts.Index.ReadAsync(connection => PointTable.Find(connection, wish.Point), cancellationToken);
        if (known is { IsComplete: true } && known.Vm == wish.Vm && (wish.ManifestHash ?? known.ManifestHash) == known.ManifestHash)
        {
            return new ReplicaReport(known.ManifestHash, WasHere: true, 0, default);
        }
        try
        {
            var counts = new ReplicaCounts(options.Progress);
            var replica = await source.ReadPointAsync(wish.Point, cancellationToken);
            try
            {
                return await PullAsync(source, replica, wish, options, counts, cancellationToken);
            }
            finally
            {
                await ReleaseAsync(source, wish.Point);
            }
        }
        catch (FaultException fault)
        {
            throw new FaultException(fault.Reason, $"The recovery point {wish.Point} was not pulled from {source.Name}. {fault.Message}", fault);
        }
    }

    private async ValueTask<ReplicaReport> PullAsync(
        IReplicaSource source, ReplicaPoint replica, ReplicaWish wish, ReplicaOptions options, ReplicaCounts counts, CancellationToken cancellationToken)
    {
        counts.AddReceived(replica.Manifest.Length + replica.AgentPublicKey.Length + replica.KeyObjects.Sum(static key => (long)key.Length));
        var manifest = Parse(replica, wish);
        var known = await parts.Committer.FindReplicaAsync(manifest, cancellationToken);
        await options.Verify(manifest, replica.AgentPublicKey, cancellationToken);
        await StoreKeysAsync(replica, manifest.Head, cancellationToken);
        await using var session = await FetchAsync(source, manifest, options.RecordCalls, counts, cancellationToken);
        using (await parts.Marking.EnterAsync(cancellationToken))
        {
            await parts.Committer.PrepareAsync(manifest, inspector: null, cancellationToken);
        }
        using var changing = await parts.ChangingPoints.CloseAsync(cancellationToken);
        await parts.Committer.CommitReplicaAsync(manifest, cancellationToken);
        if (known is not null)
        {
            await parts.Index.WriteAsync(UnlocatedTable.CheckDoubtfulSoon, CancellationToken.None);
        }
        return new ReplicaReport(manifest.Hash, WasHere: known is not null, session.StoredBytes, counts.Done);
    }

    /// <summary>All that the point lacks is here, and stays so while the session is open.</summary>
    private async ValueTask<IngestSession> FetchAsync(IReplicaSource source, Manifest manifest, int recordCalls, ReplicaCounts counts, CancellationToken cancellationToken)
    {
        for (var tries = 1; ; tries++)
        {
            var session = parts.Begin(manifest.Head.Scope);
            try
            {
                await FetchAsync(source, manifest, session, recordCalls, counts, cancellationToken);
                return session;
            }
            catch (FaultException) when (session.HasMadeRoom && tries < TriesMax)
            {
                // A damaged pack was in the way, and is not any more.
                await session.DisposeAsync();
            }
            catch
            {
                await session.DisposeAsync();
                throw;
            }
        }
    }

    private Manifest Parse(ReplicaPoint replica, ReplicaWish wish)
    {
        var manifest = Manifest.Parse(replica.Manifest);
        var head = manifest.Head;
        if (head.Point != wish.Point || head.Vm != wish.Vm || (wish.ManifestHash ?? manifest.Hash) != manifest.Hash)
        {
            throw FaultException.Malformed("It sent another manifest than it was asked for.");
        }
        if (head.Scope.IsEmpty)
        {
            throw FaultException.Malformed("The manifest names no scope.");
        }
        // Ids of chunks stand in the clear in maps: whoever knows one must not put other bytes under it where this repository looks for its own.
        if (head.Repository != parts.Head.Uuid && (head.Scope == parts.Head.Uuid || parts.Head.Scopes.Any(own => Id16.Parse(own.Id) == head.Scope)))
        {
            throw FaultException.Malformed("The manifest is of another repository and names a scope of this one.");
        }
        if (replica.AgentPublicKey.Length is 0 or > KeyKeeper.AgentKeyBytesMax || KeyId.Compute(replica.AgentPublicKey.Span) != head.AgentKeyId)
        {
            throw FaultException.Malformed("It sent another agent's public key than the manifest names.");
        }
        return manifest;
    }

    private async ValueTask StoreKeysAsync(ReplicaPoint replica, ManifestHead head, CancellationToken cancellationToken)
    {
        if (replica.KeyObjects.Count > head.Epochs.Count * KeysPerEpochMax)
        {
            throw FaultException.Malformed($"It sent {replica.KeyObjects.Count} key objects for {head.Epochs.Count} key epochs.");
        }
        var epochs = head.Epochs.ToHashSet();
        foreach (var bytes in replica.KeyObjects)
        {
            var key = KeyObject.Parse(bytes.Span);
            if (key.Repository != head.Repository || key.Vm != head.Vm || !epochs.Contains(key.Epoch))
            {
                throw FaultException.Malformed($"It sent a key object of epoch {key.Epoch} that is not the manifest's.");
            }
            if (!await parts.Index.ReadAsync(connection => PointTable.HasKey(connection, key.Vm, key.Epoch, key.Recipient), cancellationToken))
            {
                await parts.Keys.PutAsync(bytes, head.Repository, cancellationToken);
            }
        }
        if (await parts.Index.ReadAsync(connection => PointTable.FindEpochWithoutKey(connection, head.Vm, head.Epochs), cancellationToken) is { } missing)
        {
            throw FaultException.Malformed($"It sent no key object of epoch {missing}, which the manifest lists.");
        }
        await parts.Keys.PutAgentKeyAsync(replica.AgentPublicKey, cancellationToken);
    }

    private async ValueTask FetchAsync(
        IReplicaSource source, Manifest manifest, IngestSession session, int recordCalls, ReplicaCounts counts, CancellationToken cancellationToken)
    {
        var hasDamage = await parts.Index.ReadAsync(UnlocatedTable.HasAny, cancellationToken);
        using var mapLane = new IntakeLane(session.OpenLane(RecordKind.Map), hasDamage);
        using var dataLane = new IntakeLane(session.OpenLane(RecordKind.Data), hasDamage);
        using var looking = new Gate();
        var fetch = new ReplicaFetch
        {
            Source = source, Point = manifest.Head.Point, Scope = manifest.Head.Scope, Streams = manifest.Head.Streams, Plan = new ReplicaPlan(manifest.Head.Streams),
            Lookup = new ReplicaLookup(parts.Index, parts.Deleting, session), Counts = counts, MapLane = mapLane, DataLane = dataLane,
            NodeReader = new NodeReader(parts.Store, parts.Index), NodeBatches = new NodeBatch(parts.Store, parts.Index), RecordCallsMax = recordCalls,
            Looking = looking, Stopping = cancellationToken,
        };
        await fetch.RunAsync();
    }

    private static async ValueTask ReleaseAsync(IReplicaSource source, Id16 point)
    {
        try
        {
            await source.ReleaseAsync(point, CancellationToken.None);
        }
        catch (FaultException)
        {
            // The source lets go of it when the connection ends.
        }
    }
}

/// <summary>What an intake works with; all of it is the repository's.</summary>
internal sealed record ReplicaIntakeParts
{
    public required RepositoryHead Head { get; init; }
    public required IObjectStore Store { get; init; }
    public required IDatabase Index { get; init; }
    public required RecoveryPointCommitter Committer { get; init; }
    public required KeyKeeper Keys { get; init; }
    public required Gate ChangingPoints { get; init; }
    public required Gate Deleting { get; init; }
    public required SharedGate Marking { get; init; }

    /// <summary>Begins to take in records of a scope, of any generation of its id key.</summary>
    public required Func<Id16, IngestSession> Begin { get; init; }
}
