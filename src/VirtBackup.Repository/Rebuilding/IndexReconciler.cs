using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;
using VirtBackup.Repository.Commits;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Points;

namespace VirtBackup.Repository.Rebuilding;

/// <summary>
/// Brings the index up to the store, which is the truth. At every start: packs, keys and manifests that the index lacks
/// are added, points whose manifest is gone are removed, pending commits are settled. A rebuild does the same from an
/// empty index. Damaged objects are named and left out.
/// </summary>
internal sealed class IndexReconciler(
    IObjectStore store, IDatabase index, RecoveryPointCommitter committer, long generation, TimeProvider clock, IProgress<RebuildProgress>? progress)
{
    private readonly List<ObjectProblem> _problems = [];
    private long _problemCount;
    private RebuildProgress _done;

    /// <summary>Runs once.</summary>
    public async ValueTask<OpenReport> RunAsync(bool rebuild, CancellationToken cancellationToken)
    {
        (long Added, long Removed)? settled = null;
        if (!rebuild)
        {
            var known = await index.ReadAsync(PackTable.CountLive, cancellationToken);
            // Marks of complete nodes may rest on a pack that is gone.
            if (await AddPacksAsync(cancellationToken) >= known)
            {
                await AddKeysAsync(cancellationToken);
                settled = await SettlePointsAsync(rebuild: false, cancellationToken);
            }
        }
        if (settled is not null)
        {
            return new OpenReport(false, _done.Packs, settled.Value.Added, settled.Value.Removed, _problems, _problemCount);
        }
        await index.WriteAsync(Clear, cancellationToken);
        (_done, _problemCount) = (default, 0);
        _problems.Clear();
        await AddPacksAsync(cancellationToken);
        await AddKeysAsync(cancellationToken);
        settled = await SettlePointsAsync(rebuild: true, cancellationToken);
        await index.WriteAsync(connection => connection.Execute("UPDATE owner SET rebuilding = 0"), cancellationToken);
        return new OpenReport(true, _done.Packs, settled!.Value.Added, settled.Value.Removed, _problems, _problemCount);
    }

    private static void Clear(ISqlConnection connection) => connection.Execute(
        """
        UPDATE owner SET rebuilding = 1;
        DELETE FROM object; DELETE FROM pack; DELETE FROM scope; DELETE FROM complete_node; DELETE FROM epoch_set;
        DELETE FROM point; DELETE FROM pending_commit; DELETE FROM vm_key; DELETE FROM collection; DELETE FROM audit; DELETE FROM damage;
        UPDATE numbering SET next = 1;
        """);

    private async ValueTask<long> AddPacksAsync(CancellationToken cancellationToken)
    {
        var intake = new PackIntake(store, index, generation, clock, Report, progress);
        var known = await intake.RunAsync(cancellationToken);
        _done = intake.Done;
        return known;
    }

    private async ValueTask AddKeysAsync(CancellationToken cancellationToken)
    {
        var keys = new List<(Id16 Vm, Id16 Epoch, Id16 Recipient)>();
        await foreach (var info in store.ListAsync(ObjectKeys.KeysPrefix, cancellationToken))
        {
            if (!ObjectKeys.TryParseVmKey(info.Key, out var vm, out var epoch, out var recipient))
            {
                Report(info.Key, "It is not named as a key object.");
            }
            else if (info.Length != Format.Keys.KeyObject.Size)
            {
                Report(info.Key, $"It has {info.Length} bytes, which no key object has.");
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
    private async ValueTask<(long Added, long Removed)?> SettlePointsAsync(bool rebuild, CancellationToken cancellationToken)
    {
        var (visible, forgotten) = await index.ReadAsync(
            connection => (PointTable.List(connection, null).ToDictionary(point => point.Point), PointTable.ListForgotten(connection).ToDictionary(row => row.Info.Point, row => row.Info)),
            cancellationToken);
        var trashed = await ListTrashAsync(cancellationToken);
        long added = 0;
        await foreach (var info in store.ListAsync(ObjectKeys.RecoveryPointsPrefix, cancellationToken))
        {
            if (!ObjectKeys.TryParseManifest(info.Key, out var vm, out var point))
            {
                Report(info.Key, "It is not named as a manifest.");
                continue;
            }
            // A copy in the trash that was not finished does not count.
            trashed.Remove(point);
            if (visible.Remove(point, out var row) && row.Vm == vm && row.ManifestBytes == info.Length)
            {
                continue;
            }
            if (forgotten.Remove(point))
            {
                await index.WriteAsync(connection => PointTable.SetForgotten(connection, point, 0), cancellationToken);
                continue;
            }
            if (!rebuild && !await IsExpectedAsync(info, vm, point, cancellationToken))
            {
                return null;
            }
            added += await AdoptAsync(info, vm, point, forgottenMs: 0, cancellationToken) ? 1 : 0;
        }
        var now = Math.Max(1, clock.GetUtcNow().ToUnixTimeMilliseconds());
        foreach (var (point, info) in trashed)
        {
            if (visible.Remove(point))
            {
                await index.WriteAsync(connection => PointTable.SetForgotten(connection, point, now), cancellationToken);
            }
            else if (!forgotten.Remove(point))
            {
                await AdoptAsync(info.Object, info.Vm, point, now, cancellationToken);
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
    private async ValueTask<bool> IsExpectedAsync(ObjectInfo info, Id16 vm, Id16 point, CancellationToken cancellationToken) =>
        await index.ReadAsync(connection => PointTable.FindPending(connection, point), cancellationToken) is not null
        || await ReadManifestAsync(info, vm, point, cancellationToken) is null;

    private async ValueTask<Dictionary<Id16, (ObjectInfo Object, Id16 Vm)>> ListTrashAsync(CancellationToken cancellationToken)
    {
        var trashed = new Dictionary<Id16, (ObjectInfo, Id16)>();
        await foreach (var info in store.ListAsync(ObjectKeys.TrashPrefix, cancellationToken))
        {
            if (PointKeeper.TryParseTrash(info.Key, out var vm, out var point))
            {
                trashed[point] = (info, vm);
            }
        }
        return trashed;
    }

    private async ValueTask<bool> AdoptAsync(ObjectInfo info, Id16 vm, Id16 point, long forgottenMs, CancellationToken cancellationToken)
    {
        if (await ReadManifestAsync(info, vm, point, cancellationToken) is not { } manifest)
        {
            return false;
        }
        await committer.AdoptAsync(manifest, await TryCheckAsync(info.Key, manifest, cancellationToken), forgottenMs, cancellationToken);
        _done = _done with { Points = _done.Points + 1 };
        progress?.Report(_done);
        return true;
    }

    private async ValueTask<Manifest?> ReadManifestAsync(ObjectInfo info, Id16 vm, Id16 point, CancellationToken cancellationToken)
    {
        try
        {
            var bytes = await store.ReadAllAsync(info.Key, Limits.ManifestBytesMax, cancellationToken);
            if (AbortTombstone.IsTombstone(bytes))
            {
                return null;
            }
            var manifest = Manifest.Parse(bytes);
            if (manifest.Head.Vm == vm && manifest.Head.Point == point)
            {
                return manifest;
            }
            Report(info.Key, "It is the manifest of another recovery point than its name says.");
        }
        catch (FaultException fault) when (IsDamage(fault))
        {
            Report(info.Key, fault.Message);
        }
        return null;
    }

    private async ValueTask<bool> TryCheckAsync(string key, Manifest manifest, CancellationToken cancellationToken)
    {
        try
        {
            await committer.CheckAsync(manifest, inspector: null, cancellationToken);
            return true;
        }
        catch (FaultException fault) when (IsDamage(fault) || fault.Reason == FaultReason.Incomplete)
        {
            Report(key, fault.Message);
            return false;
        }
    }

    private static bool IsDamage(FaultException fault) =>
        fault.Reason is FaultReason.Malformed or FaultReason.Corrupt or FaultReason.Unsupported or FaultReason.NotFound;

    private void Report(string key, string problem)
    {
        _problemCount++;
        if (_problems.Count < OpenReport.ProblemsMax)
        {
            _problems.Add(new ObjectProblem(key, problem));
        }
    }
}
