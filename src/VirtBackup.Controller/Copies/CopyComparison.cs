using VirtBackup.Catalog.Copies;
using VirtBackup.Catalog.Retention;
using VirtBackup.Core;
using VirtBackup.Repository.Points;

namespace VirtBackup.Controller.Copies;

/// <summary>What is to be done in a copy store.</summary>
internal sealed record CopyPlan
{
    /// <summary>Points that are wanted there and are not, or not whole; the oldest first.</summary>
    public required IReadOnlyList<RecoveryPointInfo> Missing { get; init; }

    /// <summary>Of these, those that were forgotten there and can be brought back.</summary>
    public required IReadOnlySet<Id16> Recallable { get; init; }

    /// <summary>Locks that are to be placed or lengthened, and until when, Unix milliseconds.</summary>
    public required IReadOnlyList<(CopyPointRow Row, long UntilMs)> Locks { get; init; }

    /// <summary>Points that the repository let go, and that nothing keeps there; the oldest first.</summary>
    public required IReadOnlyList<CopyPointRow> Expired { get; init; }

    /// <summary>The locks of the repository's points that are not over, Unix milliseconds.</summary>
    public required IReadOnlyDictionary<Id16, long> LockedHere { get; init; }

    public required IReadOnlyList<StoredPolicy> Policies { get; init; }

    public bool IsNothing => Missing.Count + Locks.Count + Expired.Count == 0;

    /// <summary>Until when a point is to be locked in the store, Unix milliseconds; 0: not.</summary>
    public long LockedUntil(string store, Id16 point, Id16 vm, bool isReplica, long createdMs) =>
        Policies.Where(policy => policy.IsAbout(vm, isReplica)).Select(policy => policy.LockedUntil(store, createdMs))
            .Append(LockedHere.GetValueOrDefault(point)).Max();
}

/// <summary>
/// Compares the repository with a copy store, and notes in the catalog what is there. What the repository forgot, it is seen to
/// have forgotten: a point that is merely gone from it, by damage or because another past was set up, is never let go elsewhere.
/// </summary>
internal sealed class CopyComparison(CopyParts parts)
{
    public async ValueTask<List<StoredPolicy>> ListPoliciesAsync(CancellationToken cancellationToken) =>
        (await parts.Catalog.Copies.ListPoliciesAsync(cancellationToken)).ConvertAll(static row => new StoredPolicy(row));

    public async ValueTask<CopyPlan> RunAsync(OpenCopy copy, CancellationToken cancellationToken)
    {
        var store = copy.Row.Name;
        var policies = await ListPoliciesAsync(cancellationToken);
        // First what is there, then what is here: a point that comes meanwhile is missing until the next look.
        var there = (await copy.Repository.ListPointsAsync(null, cancellationToken)).ToDictionary(static point => point.Point);
        var forgottenThere = (await copy.Repository.ListForgottenAsync(cancellationToken)).Select(static point => point.Point).ToHashSet();
        var forgotten = (await parts.Repository.ListForgottenAsync(cancellationToken)).Select(static point => point.Point).ToHashSet();
        var here = (await parts.Repository.ListPointsAsync(null, cancellationToken)).ToDictionary(static point => point.Point);
        var replicas = await parts.Catalog.Copies.ListReplicasAsync(cancellationToken);
        var now = await parts.Clock.ReadAsync(cancellationToken);
        var lockedHere = (await parts.Locks.ListAsync(cancellationToken)).Where(found => found.Value > now.NowMs).ToDictionary();
        var rows = await NoteAsync(copy, there, here, forgotten, now.NowMs, cancellationToken);
        var missing = here.Values
            .Where(point => point.IsComplete && !(there.TryGetValue(point.Point, out var copied) && copied.IsComplete)
                && policies.Exists(policy => policy.WantsAt(store) && policy.IsAbout(point.Vm, replicas.Contains(point.Point))))
            .OrderBy(static point => point.CreatedMs).ThenBy(static point => point.Sequence).ThenBy(static point => point.Point).ToList();
        var plan = new CopyPlan
        {
            Missing = missing, Recallable = missing.Select(static point => point.Point).Where(forgottenThere.Contains).ToHashSet(), Policies = policies,
            LockedHere = lockedHere, Locks = [], Expired = [],
        };
        // Also of what the repository let go meanwhile: a policy's lock holds from when the point was made, whenever it is placed.
        var locks = rows
            .Select(row => (Row: row, UntilMs: plan.LockedUntil(store, row.PointId, row.VmId, replicas.Contains(row.PointId), row.CreatedMs)))
            .Where(wish => wish.UntilMs > now.NowMs && wish.UntilMs > wish.Row.LockedUntilMs).ToList();
        var locked = locks.Select(static wish => wish.Row.PointId).ToHashSet();
        return plan with
        {
            Locks = locks,
            Expired = now.MayExpire ? (await FindExpiredAsync(store, rows, here, policies, now.NowMs, cancellationToken)).FindAll(row => !locked.Contains(row.PointId)) : [],
        };
    }

    private async ValueTask<List<CopyPointRow>> NoteAsync(
        OpenCopy copy, Dictionary<Id16, RecoveryPointInfo> there, Dictionary<Id16, RecoveryPointInfo> here, HashSet<Id16> forgotten, long nowMs, CancellationToken cancellationToken)
    {
        var store = copy.Row.Name;
        var known = await parts.Catalog.Copies.ListPointsAsync(store, cancellationToken);
        var locked = copy.KnowsLocks ? null : await copy.Locks.ListAsync(cancellationToken);
        var rows = new List<CopyPointRow>();
        foreach (var point in there.Values)
        {
            var before = known.GetValueOrDefault(point.Point);
            var released = here.ContainsKey(point.Point) ? null : forgotten.Contains(point.Point) ? before?.ReleasedMs ?? nowMs : before?.ReleasedMs;
            var until = locked?.GetValueOrDefault(point.Point) ?? before?.LockedUntilMs ?? 0;
            rows.Add(new CopyPointRow(store, point.Point, point.Vm, point.CreatedMs, point.IsComplete, until, released));
        }
        await parts.Catalog.Copies.NotePointsAsync(
            store, rows.FindAll(row => known.GetValueOrDefault(row.PointId) != row), [.. known.Keys.Where(point => !there.ContainsKey(point))], cancellationToken);
        copy.KnowsLocks = true;
        return rows;
    }

    /// <summary>What the repository let go, and neither a lock nor a rule set keeps there.</summary>
    private async ValueTask<List<CopyPointRow>> FindExpiredAsync(
        string store, List<CopyPointRow> rows, Dictionary<Id16, RecoveryPointInfo> here, List<StoredPolicy> policies, long nowMs, CancellationToken cancellationToken)
    {
        var expired = new List<CopyPointRow>();
        foreach (var machine in rows.GroupBy(static row => row.VmId))
        {
            var released = machine.Where(row => row.ReleasedMs is not null && !here.ContainsKey(row.PointId) && row.LockedUntilMs <= nowMs).ToList();
            if (released.Count == 0)
            {
                continue;
            }
            var kept = new HashSet<Id16>();
            foreach (var policy in policies.Where(policy => policy.Policy.RuleSet.Length > 0 && policy.WantsAt(store) && policy.IsAbout(machine.Key, isReplica: false)))
            {
                // A rule set that was deleted keeps everything: nothing says what it would have let go.
                var rules = (await parts.Catalog.RuleSets.FindAsync(policy.Policy.RuleSet, cancellationToken))?.Rules ?? RetentionRules.KeepEverything;
                var points = machine.Select(static row => new RetentionPoint(row.PointId, row.CreatedMs, IsVerified: false, IsHeld: false, IsInUse: false, row.LockedUntilMs));
                kept.UnionWith(RetentionEvaluation.Run(rules, points, nowMs).Where(static verdict => !verdict.Expires).Select(static verdict => verdict.Point.Id));
            }
            expired.AddRange(released.Where(row => !kept.Contains(row.PointId)));
        }
        return [.. expired.OrderBy(static row => row.CreatedMs)];
    }
}
