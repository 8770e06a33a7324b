using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Views;

/// <summary>Audits of a machine's change tracking; probabilities are fractions of one, of what one run finds. A block has 64 KiB.</summary>
internal sealed record TrackingAuditView(
    DateTimeOffset? RunTime, string? PointId, ulong UnchangedBlocks, ulong AuditedBlocks, ulong AuditedBytes, double Detects1, double Detects10, double Detects100,
    uint Runs, uint RunsTaken, uint RunsLeft, double? DaysLeft, ulong RotatedBytes, ulong RotationBytes, bool Cut, string? Omitted, DateTimeOffset? RotationTime,
    DateTimeOffset? SuspectTime, DateTimeOffset? MissTime, string? Miss)
{
    public static TrackingAuditView? Of(TrackingAudit? audit) => audit is null ? null : new(
        WireNames.Of(audit.RunTime), WireNames.TextOrNull(audit.PointId), audit.UnchangedBlocks, audit.AuditedBlocks, audit.AuditedBytes, audit.Detects1, audit.Detects10,
        audit.Detects100, audit.Runs, audit.RunsTaken, audit.RunsLeft, audit.HasDaysLeft ? audit.DaysLeft : null, audit.RotatedBytes, audit.RotationBytes, audit.Cut,
        WireNames.TextOrNull(audit.Omitted), WireNames.Of(audit.RotationTime), WireNames.Of(audit.SuspectTime), WireNames.Of(audit.MissTime), WireNames.TextOrNull(audit.Miss));
}
