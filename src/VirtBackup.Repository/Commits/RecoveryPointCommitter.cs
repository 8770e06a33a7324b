using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Ingest;
using VirtBackup.Repository.Points;
using VirtBackup.Repository.Reading;

namespace VirtBackup.Repository.Commits;

/// <summary>
/// Commits recovery points. The order makes every crash harmless: everything below the manifest is durable and checked;
/// a pending row counts its roots; the manifest appears under its key, only if absent: that is the commit; the row of the
/// point takes over the counts, or the next start makes up for it. A
/// caller that goes away is heard only up to the pending row: a manifest without its row would be a point that nobody sees.
/// </summary>
internal sealed class RecoveryPointCommitter(IObjectStore store, IDatabase index, Ownership owner, Id16 repository, TimeProvider clock)
{
    /// <summary>The points that were brought into the index so far.</summary>
    public AdoptionLog Adoptions { get; } = new();

    /// <summary>No point is made in this repository: also those that name it as their origin are replicas.</summary>
    public bool IsOfCopy { get; init; }

    public async ValueTask<CommitResult> CommitAsync(
        IngestSession session, ReadOnlyMemory<byte> bytes, CommitExpectation expected, ILeafInspector inspector, CancellationToken cancellationToken)
    {
        var manifest = Manifest.Parse(bytes);
        var head = manifest.Head;
        if (expected.FindDifference(head, repository, session.Scope, session.IdGeneration) is { } field)
        {
            throw new FaultException(
                FaultReason.FailedPrecondition, $"The manifest of recovery point {head.Point} names another {field} than its session was given. Run the backup again.");
        }
        if (await IsCommittedAsync(manifest, cancellationToken))
        {
            return new CommitResult(manifest.Hash, session.StoredBytes);
        }
        await RequireBaseAsync(head, cancellationToken);
        await CheckAsync(manifest, inspector, cancellationToken);
        await SettleOtherAsync(manifest, cancellationToken);
        // Now, and not before: the walk may have taken long.
        await owner.RequireAsync(cancellationToken);
        await index.WriteAsync(
            connection => PointTable.PutPending(connection, manifest, clock.GetUtcNow().ToUnixTimeMilliseconds()), cancellationToken);
        if (!await store.PutAsync(ObjectKeys.Manifest(head.Vm, head.Point), manifest.Bytes, CancellationToken.None))
        {
            await RequireSameAsync(manifest, CancellationToken.None);
        }
        await AdoptAsync(manifest, isComplete: true, forgottenMs: 0, CancellationToken.None);
        return new CommitResult(manifest.Hash, session.StoredBytes);
    }

    /// <summary>
    /// Commits a point that was made elsewhere and lies here whole; nothing is asked of its past, which may not be here. A point
    /// that is here and damaged becomes whole.
    /// </summary>
    public async ValueTask CommitReplicaAsync(Manifest manifest, CancellationToken cancellationToken)
    {
        var head = manifest.Head;
        var known = await FindReplicaAsync(manifest, cancellationToken);
        if (known is { IsComplete: true })
        {
            return;
        }
        await CheckAsync(manifest, inspector: null, cancellationToken);
        if (known is null)
        {
            await SettleOtherAsync(manifest, cancellationToken);
        }
        await owner.RequireAsync(cancellationToken);
        if (known is null)
        {
            await index.WriteAsync(
                connection => PointTable.PutPending(connection, manifest, clock.GetUtcNow().ToUnixTimeMilliseconds()), cancellationToken);
        }
        // Also of one that is known: its manifest may be what is missing.
        while (!await store.PutAsync(ObjectKeys.Manifest(head.Vm, head.Point), manifest.Bytes, CancellationToken.None))
        {
            if (!await TryRemoveTombstoneAsync(head, CancellationToken.None))
            {
                await RequireSameAsync(manifest, CancellationToken.None);
                break;
            }
        }
        await AdoptAsync(manifest, isComplete: true, forgottenMs: 0, CancellationToken.None);
    }

    /// <summary>The point, if it is here already, whole or not.</summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.AlreadyExists"/>: it has another manifest; <see cref="FaultReason.FailedPrecondition"/>: it was forgotten.
    /// </exception>
    public async ValueTask<RecoveryPointInfo?> FindReplicaAsync(Manifest manifest, CancellationToken cancellationToken)
    {
        await RequireNotForgottenAsync(manifest.Head.Point, cancellationToken);
        var known = await index.ReadAsync(connection => PointTable.Find(connection, manifest.Head.Point), cancellationToken);
        return known is null || (known.ManifestHash == manifest.Hash && known.Vm == manifest.Head.Vm) ? known : throw AlreadyExists(manifest.Head.Point);
    }

    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: the point was forgotten here, and can be brought back.</exception>
    public async ValueTask RequireNotForgottenAsync(Id16 point, CancellationToken cancellationToken)
    {
        if (await index.ReadAsync(connection => PointTable.FindForgotten(connection, point), cancellationToken) is not null)
        {
            throw new FaultException(
                FaultReason.FailedPrecondition, $"The recovery point {point} is here and was forgotten: 'virtbackup recovery-point recall' brings it back.");
        }
    }

    /// <summary>
    /// Does what a commit does of its proof beside other changes of points. What it misses or others release meanwhile, the
    /// commit itself finds.
    /// </summary>
    public async ValueTask PrepareAsync(
        IngestSession session, ReadOnlyMemory<byte> bytes, CommitExpectation expected, ILeafInspector inspector, CancellationToken cancellationToken)
    {
        var manifest = Manifest.Parse(bytes);
        if (expected.FindDifference(manifest.Head, repository, session.Scope, session.IdGeneration) is null
            && await index.ReadAsync(connection => PointTable.Find(connection, manifest.Head.Point), cancellationToken) is null)
        {
            await PrepareAsync(manifest, inspector, cancellationToken);
        }
    }

    /// <inheritdoc cref="PrepareAsync(IngestSession, ReadOnlyMemory{byte}, CommitExpectation, ILeafInspector, CancellationToken)"/>
    public async ValueTask PrepareAsync(Manifest manifest, ILeafInspector? inspector, CancellationToken cancellationToken)
    {
        try
        {
            await CheckAsync(manifest, inspector, cancellationToken);
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.Incomplete)
        {
            // Said by the commit, if it is still so.
        }
    }

    /// <summary>Proves that everything the manifest needs is stored, and marks its nodes complete.</summary>
    public async ValueTask CheckAsync(Manifest manifest, ILeafInspector? inspector, CancellationToken cancellationToken)
    {
        var head = manifest.Head;
        var missing = await index.ReadAsync(connection => PointTable.FindEpochWithoutKey(connection, head.Vm, head.Epochs), cancellationToken);
        if (missing is { } epoch)
        {
            throw new FaultException(
                FaultReason.Incomplete, $"The recovery point {head.Point} uses the key epoch {epoch}, whose key object was never stored.");
        }
        var walk = new CompletenessWalk(index, new NodeReader(store, index), head.Vm, head.Scope, EpochSet.Create([.. head.Epochs]), inspector);
        try
        {
            await walk.WalkAsync(head.Streams, cancellationToken);
        }
        catch (FaultException fault)
        {
            throw new FaultException(fault.Reason, $"The recovery point {head.Point} is refused. {fault.Message}", fault);
        }
    }

    /// <summary>Brings a manifest that is in the store into the index.</summary>
    /// <param name="manifest">The manifest.</param>
    /// <param name="isComplete"><see cref="CheckAsync"/> has found everything.</param>
    /// <param name="forgottenMs">Since when it is forgotten, Unix milliseconds; 0: it is visible.</param>
    /// <param name="cancellationToken">Stops before the change.</param>
    public async ValueTask AdoptAsync(Manifest manifest, bool isComplete, long forgottenMs, CancellationToken cancellationToken)
    {
        await index.WriteAsync(connection => PointTable.Put(connection, manifest, isComplete, forgottenMs), cancellationToken);
        Adoptions.Add(manifest.Head.Point);
    }

    /// <summary>
    /// Settles commits whose outcome nobody knows, by what the store holds. Where it holds nothing and the commit is old,
    /// a tombstone takes the manifest's key, so that it can never appear there. No commit may be under way.
    /// </summary>
    public async ValueTask SettlePendingAsync(long pendingUntilMs, CancellationToken cancellationToken)
    {
        foreach (var pending in await index.ReadAsync(PointTable.ListPending, cancellationToken))
        {
            var key = ObjectKeys.Manifest(pending.Vm, pending.Point);
            if (await store.FindAsync(key, cancellationToken) is null)
            {
                if (pending.CreatedMs > pendingUntilMs)
                {
                    continue;
                }
                var tombstone = new AbortTombstone(pending.Vm, pending.Point, owner.Generation, clock.GetUtcNow().ToUnixTimeMilliseconds());
                await store.PutAsync(key, tombstone.ToBytes(), cancellationToken);
            }
            var stored = await store.ReadAllAsync(key, Limits.ManifestBytesMax, cancellationToken);
            if (AbortTombstone.IsTombstone(stored))
            {
                await index.WriteAsync(connection => PointTable.RemovePending(connection, pending.Point), cancellationToken);
                continue;
            }
            await SettleAsync(pending, Manifest.Parse(stored), cancellationToken);
        }
    }

    /// <summary>The commit took place. What was damaged since then is counted, and does not keep the point from being one.</summary>
    private async ValueTask SettleAsync(PendingCommit pending, Manifest manifest, CancellationToken cancellationToken)
    {
        try
        {
            await CheckAsync(manifest, inspector: null, cancellationToken);
        }
        catch (FaultException fault) when (fault.Reason is FaultReason.Incomplete or FaultReason.NotFound or FaultReason.Corrupt or FaultReason.Malformed or FaultReason.Unsupported)
        {
            var isCounted = pending.ManifestHash == manifest.Hash;
            await index.WriteAsync(
                connection =>
                {
                    PointTable.Put(connection, manifest, isComplete: isCounted, forgottenMs: 0);
                    PointTable.SetState(connection, manifest.Head.Point, isCounted ? PointState.Damaged : PointState.Uncounted);
                },
                cancellationToken);
            return;
        }
        catch (FaultException fault) when (StoreHealth.IsUnreadable(fault))
        {
            // It stays pending, and counted, until it can be read.
            await store.RequireReadableAsync(cancellationToken);
            return;
        }
        await AdoptAsync(manifest, isComplete: true, forgottenMs: 0, cancellationToken);
    }

    /// <summary>An earlier attempt's manifest may lie in the store already, and then it is the point's.</summary>
    private async ValueTask SettleOtherAsync(Manifest manifest, CancellationToken cancellationToken)
    {
        var head = manifest.Head;
        if (await index.ReadAsync(connection => PointTable.FindPending(connection, head.Point), cancellationToken) is { } pending
            && pending.ManifestHash != manifest.Hash && await store.FindAsync(ObjectKeys.Manifest(head.Vm, head.Point), cancellationToken) is not null)
        {
            await SettlePendingAsync(pendingUntilMs: 0, cancellationToken);
            throw AlreadyExists(head.Point);
        }
    }

    private async ValueTask<bool> IsCommittedAsync(Manifest manifest, CancellationToken cancellationToken)
    {
        var known = await index.ReadAsync(connection => PointTable.Find(connection, manifest.Head.Point), cancellationToken);
        if (known is null)
        {
            return false;
        }
        return known.ManifestHash == manifest.Hash && known.Vm == manifest.Head.Vm ? true : throw AlreadyExists(manifest.Head.Point);
    }

    private async ValueTask RequireBaseAsync(ManifestHead head, CancellationToken cancellationToken)
    {
        if (head.BaseManifest.IsZero)
        {
            return;
        }
        // A base that was forgotten meanwhile still holds everything.
        if (!await index.ReadAsync(connection => PointTable.HasManifest(connection, head.Vm, head.Lineage, head.BaseManifest), cancellationToken))
        {
            throw new FaultException(
                FaultReason.Incomplete, $"The base of recovery point {head.Point} is not in the repository any more. Run the backup again.");
        }
    }

    /// <summary>The manifest's key is taken: by an earlier try of the same commit, or by something else.</summary>
    private async ValueTask RequireSameAsync(Manifest manifest, CancellationToken cancellationToken)
    {
        var key = ObjectKeys.Manifest(manifest.Head.Vm, manifest.Head.Point);
        var stored = await store.ReadAllAsync(key, Limits.ManifestBytesMax, cancellationToken);
        if (stored.AsSpan().SequenceEqual(manifest.Bytes.Span))
        {
            return;
        }
        await index.WriteAsync(connection => PointTable.RemovePending(connection, manifest.Head.Point), cancellationToken);
        throw AbortTombstone.IsTombstone(stored)
            ? new FaultException(FaultReason.Fenced, $"The commit of recovery point {manifest.Head.Point} was given up for good. Run the backup again.")
            : AlreadyExists(manifest.Head.Point);
    }

    /// <summary>
    /// A commit of a replica may be tried again after it was given up: a late arrival of its manifest would bring the same one, and
    /// the pending row counts what it needs.
    /// </summary>
    private async ValueTask<bool> TryRemoveTombstoneAsync(ManifestHead head, CancellationToken cancellationToken)
    {
        var key = ObjectKeys.Manifest(head.Vm, head.Point);
        if ((head.Repository == repository && !IsOfCopy) || !AbortTombstone.IsTombstone(await store.ReadAllAsync(key, Limits.ManifestBytesMax, cancellationToken)))
        {
            return false;
        }
        await store.DeleteAsync(key, cancellationToken);
        return true;
    }

    private static FaultException AlreadyExists(Id16 point) =>
        new(FaultReason.AlreadyExists, $"The recovery point {point} was committed already, with another manifest.");
}
