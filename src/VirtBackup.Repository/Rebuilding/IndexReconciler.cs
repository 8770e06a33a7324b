using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Commits;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Rebuilding;

/// <summary>
/// Brings the index up to the store, which is the truth. At every start: packs, keys and manifests that the index lacks
/// are added, points whose manifest is gone are removed, pending commits are settled. A few packs that are gone are told, for
/// <see cref="Scrubbing.RepositoryUpkeep.TakeOutAsync"/>. An index that cannot be brought up so
/// is made anew. Damaged objects are named and left out.
/// </summary>
internal sealed class IndexReconciler(
    IObjectStore store, IDatabase index, RecoveryPointCommitter committer, long generation, TimeProvider clock, IProgress<RebuildProgress>? progress)
{
    /// <summary>With more of them gone, or more than half of all, it takes less time to make the index anew.</summary>
    private const int GoneMax = 16;

    private const int PacksPerPage = 4096;

    private readonly RebuildNews _news = new(progress);

    /// <summary>Packs that the index knows and the store does not hold any more; their rows are as they were.</summary>
    public IReadOnlyList<PackRow> Gone { get; private set; } = [];

    private StoredManifests Manifests => new(store, _news);

    /// <summary>Runs once.</summary>
    public async ValueTask<OpenReport> RunAsync(bool rebuild, CancellationToken cancellationToken)
    {
        if (!rebuild)
        {
            var known = await index.ReadAsync(PackTable.CountLive, cancellationToken);
            var intake = new PackIntake(store, index, generation, clock, _news.Report, progress);
            if (await FindGoneAsync(known, await intake.RunAsync(cancellationToken), cancellationToken) is { } gone)
            {
                await AddKeysAsync(cancellationToken);
                if (await SettlePointsAsync(cancellationToken) is { } settled)
                {
                    Gone = gone;
                    return new OpenReport(false, intake.Done.Packs, settled.Added, settled.Removed, _news.Problems, _news.ProblemCount);
                }
            }
            _news.Clear();
        }
        var added = await new IndexRebuild(store, index, committer, generation, clock, _news).RunAsync(() => AddKeysAsync(cancellationToken), cancellationToken);
        return new OpenReport(true, _news.Done.Packs, added, 0, _news.Problems, _news.ProblemCount);
    }

    /// <returns>Null: too many.</returns>
    private async ValueTask<IReadOnlyList<PackRow>?> FindGoneAsync(long known, long found, CancellationToken cancellationToken)
    {
        if (found >= known)
        {
            return [];
        }
        if (known - found > Math.Min(GoneMax, known / 2))
        {
            return null;
        }
        var gone = new List<PackRow>();
        foreach (var kind in new[] { RecordKind.Map, RecordKind.Data })
        {
            for (long after = 0; ;)
            {
                var packs = await index.ReadAsync(connection => PackTable.ListLive(connection, kind, after, PacksPerPage), cancellationToken);
                foreach (var pack in packs)
                {
                    after = pack.Number;
                    if (await store.FindAsync(ObjectKeys.Pack(pack.Hash), cancellationToken) is null)
                    {
                        gone.Add(pack);
                        _news.Report(ObjectKeys.Pack(pack.Hash), "The pack is gone from the store.");
                    }
                }
                if (packs.Count < PacksPerPage)
                {
                    break;
                }
            }
        }
        // What has another length than the index says is no lost pack.
        return gone.Count == known - found ? gone : null;
    }

    private async ValueTask AddKeysAsync(CancellationToken cancellationToken)
    {
        var keys = new List<(Id16 Vm, Id16 Epoch, Id16 Recipient)>();
        await foreach (var info in store.ListAsync(ObjectKeys.KeysPrefix, cancellationToken))
        {
            if (!ObjectKeys.TryParseVmKey(info.Key, out var vm, out var epoch, out var recipient))
            {
                _news.Report(info.Key, "It is not named as a key object.");
            }
            else if (info.Length != Format.Keys.KeyObject.Size)
            {
                _news.Report(info.Key, $"It has {info.Length} bytes, which no key object has.");
            }
            else
            {
                keys.Add((vm, epoch, recipient));
            }
        }
        await index.WriteAsync(
            connection =>
            {
                connection.Execute("DELETE FROM vm_key");
                keys.ForEach(key => PointTable.AddKey(connection, key.Vm, key.Epoch, key.Recipient));
            },
            cancellationToken);
    }

    /// <summary>Makes the index know the points that the store holds; null: it is not the index of this store, and must be made anew.</summary>
    private async ValueTask<(long Added, long Removed)?> SettlePointsAsync(CancellationToken cancellationToken)
    {
        var (visible, forgotten) = await index.ReadAsync(
            connection => (PointTable.List(connection, null).ToDictionary(point => point.Point), PointTable.ListForgotten(connection).ToDictionary(row => row.Info.Point, row => row.Info)),
            cancellationToken);
        var trashed = await Manifests.ListTrashAsync(cancellationToken);
        long added = 0;
        await foreach (var stored in Manifests.ListAsync(cancellationToken))
        {
            var point = stored.Point;
            // A copy in the trash that was not finished does not count.
            trashed.Remove(point);
            if (visible.Remove(point, out var row) && row.Vm == stored.Vm && row.ManifestBytes == stored.Info.Length)
            {
                continue;
            }
            if (forgotten.Remove(point))
            {
                await index.WriteAsync(connection => PointTable.SetForgotten(connection, point, 0), cancellationToken);
                continue;
            }
            if (!await IsExpectedAsync(stored, cancellationToken))
            {
                return null;
            }
            added += await AdoptAsync(stored, forgottenMs: 0, cancellationToken) ? 1 : 0;
        }
        var now = Math.Max(1, clock.GetUtcNow().ToUnixTimeMilliseconds());
        foreach (var (point, stored) in trashed)
        {
            if (visible.Remove(point))
            {
                await index.WriteAsync(connection => PointTable.SetForgotten(connection, point, now), cancellationToken);
            }
            else if (!forgotten.Remove(point))
            {
                await AdoptAsync(stored, now, cancellationToken);
            }
        }
        await index.WriteAsync(
            connection =>
            {
                foreach (var lost in visible.Keys.Concat(forgotten.Keys))
                {
                    PointTable.Remove(connection, lost);
                }
                // What the store does not hold now was not committed, and the owner that tried is fenced.
                foreach (var pending in PointTable.ListPending(connection))
                {
                    PointTable.RemovePending(connection, pending.Point);
                }
            },
            cancellationToken);
        return (added, visible.Count);
    }

    /// <summary>Whether the index knows that this manifest may have appeared, or it is none.</summary>
    private async ValueTask<bool> IsExpectedAsync(StoredPoint stored, CancellationToken cancellationToken) =>
        await index.ReadAsync(connection => PointTable.FindPending(connection, stored.Point), cancellationToken) is not null
        || await Manifests.ReadAsync(stored, cancellationToken) is null;

    private async ValueTask<bool> AdoptAsync(StoredPoint stored, long forgottenMs, CancellationToken cancellationToken)
    {
        if (await Manifests.ReadAsync(stored, cancellationToken) is not { } manifest)
        {
            return false;
        }
        await committer.AdoptAsync(manifest, await TryCheckAsync(stored.Info.Key, manifest, cancellationToken), forgottenMs, cancellationToken);
        return true;
    }

    private async ValueTask<bool> TryCheckAsync(string key, Manifest manifest, CancellationToken cancellationToken)
    {
        try
        {
            await committer.CheckAsync(manifest, inspector: null, cancellationToken);
            return true;
        }
        catch (FaultException fault) when (StoreHealth.IsDamage(fault) || fault.Reason == FaultReason.Incomplete)
        {
            _news.Report(key, fault.Message);
            return false;
        }
    }
}
