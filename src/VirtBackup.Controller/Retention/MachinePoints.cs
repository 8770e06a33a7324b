using VirtBackup.Catalog;
using VirtBackup.Catalog.Retention;
using VirtBackup.Controller.Control;
using VirtBackup.Controller.Store;
using VirtBackup.Core;
using VirtBackup.Repository;

namespace VirtBackup.Controller.Retention;

/// <summary>One machine's recovery points, newest first, with all that decides about them.</summary>
/// <param name="RuleSet">What governs the machine; null: nothing does.</param>
/// <param name="Rows">Points that are not forgotten.</param>
/// <param name="Points">The same points, in the same order.</param>
/// <param name="Holds">By point.</param>
public sealed record MachinePoints(MachineRuleSet? RuleSet, IReadOnlyList<PointRow> Rows, IReadOnlyList<RetentionPoint> Points, ILookup<Id16, HoldRow> Holds)
{
    /// <summary>With fewer than two points nothing says how often there will be one.</summary>
    private const long UsualIntervalMs = 24 * 3_600_000L;

    private const long IntervalMsMin = 60_000;
    private const int IntervalsSeen = 30;

    public RetentionRules Rules => RuleSet?.RuleSet.Rules ?? RetentionRules.KeepEverything;

    /// <summary>How often points were made of late: the median distance of the newest ones.</summary>
    public long TypicalIntervalMs
    {
        get
        {
            var intervals = Points.Zip(Points.Skip(1), static (newer, older) => newer.TimeMs - older.TimeMs).Take(IntervalsSeen).Order().ToList();
            return intervals.Count == 0 ? UsualIntervalMs : Math.Clamp(intervals[intervals.Count / 2], IntervalMsMin, SimulationAssumptions.IntervalMsMax);
        }
    }
}

/// <summary>Gathers what decides about a machine's points. Safe for concurrent use.</summary>
public sealed class PointGathering(BackupRepository repository, CatalogDatabase catalog, JobService jobs, SessionRegistry sessions)
{
    /// <param name="locks">Of all points; whoever deletes asks again.</param>
    public async ValueTask<MachinePoints> ReadAsync(Id16 vmId, IReadOnlyDictionary<Id16, long> locks, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(locks);
        var rows = await catalog.Points.ListOfMachineAsync(vmId, cancellationToken);
        var holds = await catalog.Holds.ListOfMachineAsync(vmId, cancellationToken);
        var sound = await catalog.Checks.ListSoundAsync(vmId, cancellationToken);
        var stored = (await repository.ListPointsAsync(vmId, cancellationToken)).ToDictionary(static info => info.Point);
        var used = jobs.PointsInUse.ToHashSet();
        var bases = sessions.BasesInUse(vmId);
        var points = rows.ConvertAll(row =>
        {
            var info = stored.GetValueOrDefault(row.PointId);
            return new RetentionPoint(
                row.PointId, row.CreatedMs,
                // What the index misses something of is no longer what was verified.
                IsVerified: info is { IsComplete: true } && sound.Contains(row.PointId),
                IsHeld: holds.Contains(row.PointId),
                IsInUse: used.Contains(row.PointId) || (info is not null && bases.Contains(info.ManifestHash)),
                LockedUntilMs: locks.GetValueOrDefault(row.PointId));
        });
        return new MachinePoints(await catalog.RuleSets.FindOfAsync(vmId, cancellationToken), rows, points, holds);
    }
}
