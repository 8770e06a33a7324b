using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Cli.Views;

/// <summary>For how long a machine stands still, and how well such predictions held.</summary>
/// <param name="ActualSeconds">Null: not over.</param>
internal sealed record InterruptionView(double P50Seconds, double P90Seconds, uint JudgedBy, EstimateRecordView Record, double? ActualSeconds)
{
    public static InterruptionView? Of(InterruptionEstimate? estimate) => estimate is null ? null : new(
        estimate.P50Seconds, estimate.P90Seconds, estimate.JudgedBy, EstimateRecordView.Of(estimate.Record),
        estimate.ActualSeconds > 0 ? estimate.ActualSeconds : null);
}

internal sealed record MovedDiskView(string Name, string OldPath, string NewPath, string Format, ulong LengthBytes, ulong BytesMoved, double ElapsedSeconds, double InterruptionSeconds)
{
    public static MovedDiskView Of(MovedDisk disk) => new(
        disk.Name, disk.OldPath, disk.NewPath, disk.Format, disk.LengthBytes, disk.BytesMoved, disk.ElapsedSeconds, disk.InterruptionUs / 1e6);
}

/// <param name="Estimate">Null: unknown.</param>
/// <param name="LastIncrementBytes">Read by the machine's newest incremental backup; null: there is none.</param>
internal sealed record MigrationPlanView(
    string SourceAgent, string TargetAgent, IReadOnlyList<FindingView> Findings, EstimateView? Estimate, InterruptionView? Interruption, ulong? LastIncrementBytes, IReadOnlyList<MovedDiskView> Disks)
{
    public static MigrationPlanView Of(MigrationPlan plan) => new(
        plan.SourceAgent, plan.TargetAgent, [.. plan.Findings.Select(static f => new FindingView(f.Item, WireNames.Of(f.Severity), f.Message))], EstimateView.Of(plan.Estimate),
        InterruptionView.Of(plan.Interruption), plan.LastIncrementBytes > 0 ? plan.LastIncrementBytes : null, [.. (plan.Storage?.Disks ?? []).Select(MovedDiskView.Of)]);

    /// <summary>Whether nothing stands in the way.</summary>
    public bool Possible => Findings.All(static finding => finding.Verdict != "blocks");
}

/// <param name="Last">Behind the stop.</param>
internal sealed record MigrationRoundView(uint Number, string PointId, ulong BytesRead, ulong BytesWritten, double BackupSeconds, double ApplySeconds, bool Last);

/// <param name="DowntimeSeconds">Null: the machine did not stand still, or it was not measurable.</param>
internal sealed record MigrationResultView(
    IReadOnlyList<MigrationRoundView> Rounds, ulong BytesRead, ulong BytesWritten, double ElapsedSeconds, double? DowntimeSeconds, EstimateView? Estimate, InterruptionView? Interruption,
    string? Where, bool SourceKept, IReadOnlyList<MovedDiskView> Disks, IReadOnlyList<string> Notes)
{
    public static MigrationResultView Of(MigrationResult result) => new(
        [.. result.Rounds.Select(static r => new MigrationRoundView(r.Number, r.PointId, r.BytesRead, r.BytesWritten, r.BackupSeconds, r.ApplySeconds, r.Last))],
        result.BytesRead, result.BytesWritten, result.ElapsedSeconds, result.DowntimeSeconds > 0 ? result.DowntimeSeconds : null, EstimateView.Of(result.Estimate),
        InterruptionView.Of(result.Interruption), WireNames.TextOrNull(result.Where), result.SourceKept, [.. (result.Storage?.Disks ?? []).Select(MovedDiskView.Of)], [.. result.Notes]);
}

/// <param name="SourceCopy">none, running, stopped, retired or removed.</param>
/// <param name="TargetCopy">none, incomplete, stopped or running.</param>
internal sealed record MigrationView(
    string MigrationId, string VmId, string Vm, string SourceAgent, string TargetAgent, string State, string? Step, bool Cold, DateTimeOffset? CreateTime, DateTimeOffset? EndTime,
    string? Failure, string SourceCopy, string TargetCopy, MigrationResultView? Result)
{
    public static MigrationView Of(Migration migration) => new(
        migration.MigrationId, migration.VmId, migration.VmName, migration.SourceAgent, migration.TargetAgent, WireNames.Of(migration.State), WireNames.TextOrNull(migration.Step),
        migration.Options?.Cold ?? false, WireNames.Of(migration.CreateTime), WireNames.Of(migration.EndTime), WireNames.TextOrNull(migration.FailureMessage), migration.SourceCopy,
        migration.TargetCopy, migration.Result is { } result ? MigrationResultView.Of(result) : null);
}
