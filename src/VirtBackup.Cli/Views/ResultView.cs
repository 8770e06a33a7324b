using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Cli.Views;

/// <param name="BytesCompared">Of existing disks, with the recovery point; 0 for new disks.</param>
/// <param name="BytesSkipped">Of existing disks, equal already.</param>
/// <param name="Differences">Between the captured and the recreated machine; null: it could not be described.</param>
internal sealed record RestoreResultView(
    string VmId, string Name, bool Running, ulong BytesWritten, ulong BytesCompared, ulong BytesSkipped, IReadOnlyList<NamedValueView> Details,
    ulong? DifferencesTotal, IReadOnlyList<DifferenceView>? Differences, EstimateView? Estimate)
{
    public static RestoreResultView Of(RestoreResult result) => new(
        result.VmId, result.Name, result.Running, result.BytesWritten, result.BytesCompared, result.BytesSkipped,
        [.. result.Details.Select(static d => new NamedValueView(d.Name, d.Value))], result.DifferencesKnown ? result.DifferencesTotal : null,
        result.DifferencesKnown ? [.. result.Differences.Select(static d => new DifferenceView(d.Item, WireNames.TextOrNull(d.Captured), WireNames.TextOrNull(d.Recreated)))] : null,
        EstimateView.Of(result.Estimate));
}

/// <param name="Captured">Null: it was not there.</param>
/// <param name="Recreated">Null: it is not there any more.</param>
internal sealed record DifferenceView(string Item, string? Captured, string? Recreated);

internal sealed record NamedValueView(string Name, string Value);

internal sealed record DiskPlanView(string DiskId, string Name, ulong LengthBytes, bool ChangedOnly, ulong ReadBytes, string? Reason, bool Skipped)
{
    public static DiskPlanView Of(DiskPlan disk) => new(
        disk.DiskId, disk.Name, disk.LengthBytes, disk.ChangedOnly, disk.ReadBytes, WireNames.TextOrNull(disk.Reason), disk.Skipped);
}

/// <param name="Seconds">How long the backup will take.</param>
/// <param name="Backups">How many backups that is judged by.</param>
/// <param name="Vm">Whose backups they were; null: of several machines of the same agent.</param>
/// <param name="ReadBytesPerSecond">How fast they were.</param>
internal sealed record TimePredictionView(double Seconds, int Backups, string? Vm, double ReadBytesPerSecond);

internal sealed record BackupPlanView(IReadOnlyList<DiskPlanView> Disks, ulong FleeceBytesMax, ulong FleeceBytesFree, TimePredictionView? Time)
{
    public static BackupPlanView Of(BackupPlan plan) => new([.. plan.Disks.Select(DiskPlanView.Of)], plan.FleeceBytesMax, plan.FleeceBytesFree, null);

    /// <summary>Whether the worst case of guest writes fits beside the backup.</summary>
    public bool FleeceFits => FleeceBytesMax <= FleeceBytesFree;
}

internal sealed record FindingView(string Item, string Verdict, string Message);

/// <param name="Estimate">Null: the restore is not possible.</param>
internal sealed record RestoreCheckView(IReadOnlyList<FindingView> Findings, EstimateView? Estimate)
{
    public static RestoreCheckView Of(RestoreCheck check) =>
        new([.. check.Findings.Select(static f => new FindingView(f.Item, WireNames.Of(f.Severity), f.Message))], EstimateView.Of(check.Estimate));

    /// <summary>Whether nothing stands in the way.</summary>
    public bool Possible => Findings.All(static finding => finding.Verdict != "blocks");
}

internal sealed record DamagedRangeView(string? PointId, string? Vm, string? Stream, ulong Offset, ulong Length, bool Doubtful)
{
    public static DamagedRangeView Of(DamagedRange range) => new(
        WireNames.TextOrNull(range.PointId), WireNames.TextOrNull(range.VmName), WireNames.TextOrNull(range.StreamName), range.Offset, range.Length, range.Doubtful);
}

internal sealed record DamageView(string Object, string Problem, IReadOnlyList<DamagedRangeView> Ranges);

internal sealed record VerifyResultView(ulong Objects, ulong Bytes, ulong Records, ulong DamagesTotal, IReadOnlyList<DamageView> Damages)
{
    public static VerifyResultView Of(VerifyResult result) => new(
        result.Objects, result.Bytes, result.Records, Math.Max(result.DamagesTotal, (ulong)result.Damages.Count), [.. result.Damages.Select(Of)]);

    private static DamageView Of(Damage damage) => new(damage.Object, damage.Problem, [.. damage.Ranges.Select(DamagedRangeView.Of)]);
}

/// <summary>What a job came to; exactly one member is not null.</summary>
internal sealed record ResultView(
    PointView? Backup, RestoreResultView? Restore, BackupPlanView? BackupPlan, RestoreCheckView? RestoreCheck, VerifyResultView? Verify, RetentionResultView? Retention = null,
    CollectionView? Collection = null, ScrubView? Scrub = null, MigrationResultView? Migration = null, MigrationPlanView? MigrationPlan = null, GroupPointView? GroupBackup = null, RecoveryView? Recovery = null,
    ReplicationResultView? Replication = null)
{
    public static ResultView? Of(JobResult? result) => result?.ResultCase switch
    {
        JobResult.ResultOneofCase.Backup => new(PointView.Of(result.Backup), null, null, null, null),
        JobResult.ResultOneofCase.Restore => new(null, RestoreResultView.Of(result.Restore), null, null, null),
        JobResult.ResultOneofCase.BackupPlan => new(null, null, BackupPlanView.Of(result.BackupPlan), null, null),
        JobResult.ResultOneofCase.RestoreCheck => new(null, null, null, RestoreCheckView.Of(result.RestoreCheck), null),
        JobResult.ResultOneofCase.Verify => new(null, null, null, null, VerifyResultView.Of(result.Verify)),
        JobResult.ResultOneofCase.Retention => new(null, null, null, null, null, RetentionResultView.Of(result.Retention)),
        JobResult.ResultOneofCase.Collection => new(null, null, null, null, null, null, CollectionView.Of(result.Collection)),
        JobResult.ResultOneofCase.Recovery => new(null, null, null, null, null, Recovery: RecoveryView.Of(result.Recovery)),
        JobResult.ResultOneofCase.Scrub => new(null, null, null, null, null, null, null, ScrubView.Of(result.Scrub)),
        JobResult.ResultOneofCase.Migration => new(null, null, null, null, null) { Migration = MigrationResultView.Of(result.Migration) },
        JobResult.ResultOneofCase.MigrationPlan => new(null, null, null, null, null) { MigrationPlan = MigrationPlanView.Of(result.MigrationPlan) },
        JobResult.ResultOneofCase.GroupBackup => new(null, null, null, null, null) { GroupBackup = GroupPointView.Of(result.GroupBackup) },
        JobResult.ResultOneofCase.Replication => new(null, null, null, null, null) { Replication = ReplicationResultView.Of(result.Replication) },
        _ => null,
    };
}
