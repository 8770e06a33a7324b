using VirtBackup.Cli.Output;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Views;

/// <summary>What a backup run brought; shares are fractions of one, <see cref="UsualStoredShare"/> is null while it is unknown.</summary>
internal sealed record RunView(
    string PointId, DateTimeOffset? EndTime, ulong LogicalBytes, ulong NewBytes, ulong GrownBytes, ulong StoredBytes, double NewShare, double StoredShare,
    double UsualNewShare, double? UsualStoredShare, string Verdict, string? Explanation, ulong AuditedBytes, ulong AuditMisses)
{
    public static RunView Of(MachineRun run) => new(
        run.PointId, WireNames.Of(run.EndTime), run.LogicalBytes, run.NewBytes, run.GrownBytes, run.StoredBytes, run.NewShare, run.StoredShare,
        run.UsualNewShare, run.UsualStoredShare > 0 ? run.UsualStoredShare : null, SnakeCase.Of(run.Verdict.ToString()), WireNames.TextOrNull(run.Explanation),
        run.AuditedBytes, run.AuditMisses);
}
