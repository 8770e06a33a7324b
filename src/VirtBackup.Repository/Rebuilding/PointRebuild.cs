using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Manifests;
using VirtBackup.Repository.Commits;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Rebuilding;

/// <summary>
/// Brings the points of a store into an index without points: first their roots into the rebuild's trees, and when all rows
/// are written, the points themselves. About 200 bytes for each. Runs once.
/// </summary>
internal sealed class PointRebuild(RebuildSpace space, StoredManifests manifests, IDatabase index, RecoveryPointCommitter committer, TimeProvider clock, RebuildNews news)
{
    private const int PointsPerTransaction = 64;

    private readonly List<PlannedPoint> _points = [];
    private readonly Dictionary<Id32, EpochSet> _allowed = [];

    /// <summary>Reads all manifests and marks their roots. Keys must have their rows.</summary>
    public async ValueTask PlanAsync(CancellationToken cancellationToken)
    {
        var trashed = await manifests.ListTrashAsync(cancellationToken);
        await foreach (var stored in manifests.ListAsync(cancellationToken))
        {
            // A copy in the trash that was not finished does not count.
            trashed.Remove(stored.Point);
            await PlanAsync(stored, forgottenMs: 0, cancellationToken);
        }
        var now = Math.Max(1, clock.GetUtcNow().ToUnixTimeMilliseconds());
        foreach (var stored in trashed.Values)
        {
            await PlanAsync(stored, now, cancellationToken);
        }
    }

    /// <summary>Adds the points. Returns how many of them are visible.</summary>
    public async ValueTask<long> AddAsync(CancellationToken cancellationToken)
    {
        long added = 0;
        var whole = new List<(Manifest Manifest, long ForgottenMs)>();
        foreach (var point in _points)
        {
            if (await manifests.ReadAsync(point.Stored, cancellationToken) is not { } manifest)
            {
                continue;
            }
            added += point.ForgottenMs == 0 ? 1 : 0;
            if (!IsWhole(point) && !await TryCheckAsync(point.Stored, manifest, cancellationToken))
            {
                await committer.AdoptAsync(manifest, isComplete: false, point.ForgottenMs, cancellationToken);
                news.AddPoints(1);
                continue;
            }
            whole.Add((manifest, point.ForgottenMs));
            if (whole.Count >= PointsPerTransaction)
            {
                await WriteAsync(whole, cancellationToken);
            }
        }
        await WriteAsync(whole, cancellationToken);
        return added;
    }

    private async ValueTask PlanAsync(StoredPoint stored, long forgottenMs, CancellationToken cancellationToken)
    {
        if (await manifests.ReadAsync(stored, cancellationToken) is not { } manifest)
        {
            return;
        }
        var head = manifest.Head;
        var lacksKey = await index.ReadAsync(connection => PointTable.FindEpochWithoutKey(connection, head.Vm, head.Epochs), cancellationToken) is not null;
        var scope = space.ScopeOf(head.Scope);
        var roots = head.Streams.Where(static stream => !stream.Root.IsZero).Select(stream => space.Trees.Mark(stream.Root, scope, stream.Geometry.Root));
        _points.Add(new PlannedPoint(stored, forgottenMs, lacksKey, [.. roots], Intern(EpochSet.Create([.. head.Epochs]))));
    }

    private EpochSet Intern(EpochSet set)
    {
        _allowed.TryAdd(set.Hash, set);
        return _allowed[set.Hash];
    }

    private bool IsWhole(in PlannedPoint point)
    {
        if (point.LacksKey)
        {
            return false;
        }
        foreach (var root in point.Roots)
        {
            if (root < 0 || space.Trees[root].IsBroken || !point.Allowed.Contains(space.Trees.Epochs[space.Trees[root].Epochs]))
            {
                return false;
            }
        }
        return true;
    }

    /// <summary>The walk of a commit says what exactly is missing.</summary>
    private async ValueTask<bool> TryCheckAsync(StoredPoint stored, Manifest manifest, CancellationToken cancellationToken)
    {
        try
        {
            await committer.CheckAsync(manifest, inspector: null, cancellationToken);
            return true;
        }
        catch (FaultException fault) when (StoreHealth.IsDamage(fault) || fault.Reason == FaultReason.Incomplete)
        {
            news.Report(stored.Info.Key, fault.Message);
            return false;
        }
    }

    private async ValueTask WriteAsync(List<(Manifest Manifest, long ForgottenMs)> points, CancellationToken cancellationToken)
    {
        await index.WriteAsync(
            connection => points.ForEach(point => PointTable.Put(connection, point.Manifest, isComplete: true, point.ForgottenMs)), cancellationToken);
        news.AddPoints(points.Count);
        news.Tell();
        points.Clear();
    }

    /// <param name="Roots">Marks; -1: a root that is not stored.</param>
    /// <param name="Allowed">The key epochs that the manifest lists.</param>
    private readonly record struct PlannedPoint(StoredPoint Stored, long ForgottenMs, bool LacksKey, int[] Roots, EpochSet Allowed);
}
