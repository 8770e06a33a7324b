using Spectre.Console;
using VirtBackup.Cli.Output;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Views;

internal sealed record AuditView(ulong Points, ulong Nodes, ulong References, ulong CountedTooOften, ulong Repaired)
{
    public static AuditView? Of(AuditResult? audit) =>
        audit is null ? null : new(audit.Points, audit.Nodes, audit.References, audit.CountedTooOften, audit.Repaired);
}

/// <summary>What a run of the collector did, or would do. Bytes are those in the repository.</summary>
internal sealed record CollectionView(
    ulong Cycle, bool DryRun, ulong PointsPurged, ulong PointsRecallable, ulong RecordsCondemned, ulong RecordsRemoved, ulong BytesRemoved,
    ulong PacksRepacked, ulong BytesRepacked, ulong PacksTrashed, ulong BytesTrashed, ulong PacksDeleted, ulong BytesFreed,
    IReadOnlyList<string> Problems, AuditView? Audit)
{
    public static CollectionView Of(CollectionResult result) => new(
        result.Cycle, result.DryRun, result.PointsPurged, result.PointsRecallable, result.RecordsCondemned, result.RecordsRemoved, result.BytesRemoved,
        result.PacksRepacked, result.BytesRepacked, result.PacksTrashed, result.BytesTrashed, result.PacksDeleted, result.BytesFreed,
        [.. result.Problems], AuditView.Of(result.Audit));

    public void Write(IAnsiConsole console)
    {
        TextLayout.Title(console, DryRun ? "What a run would do now" : "Result");
        TextLayout.Facts(
            console,
            ("Audited", Audit is { } audit ? TextLayout.Cell($"{Units.Count(audit.References)} references of {Units.Count(audit.Points)} recovery points: sound", TextLayout.Good) : null),
            ("Counted too often", Audit is { CountedTooOften: > 0 } excess ? TextLayout.Cell($"{Units.Count(excess.CountedTooOften)}, {Units.Count(excess.Repaired)} set right", TextLayout.Doubtful) : null),
            ("Recovery points purged", TextLayout.Cell(Units.Count(PointsPurged))),
            ("still recallable", TextLayout.Cell(Units.Count(PointsRecallable))),
            ("Records condemned", TextLayout.Cell($"{Units.Count(RecordsCondemned)} (first look)")),
            ("removed", TextLayout.Cell($"{Units.Count(RecordsRemoved)} (second look), {Units.Bytes(BytesRemoved)}")),
            ("Packs repacked", TextLayout.Cell($"{Units.Count(PacksRepacked)}, {Units.Bytes(BytesRepacked)} kept")),
            ("marked", TextLayout.Cell($"{Units.Count(PacksTrashed)}, {Units.Bytes(BytesTrashed)} to go in a day")),
            ("deleted", TextLayout.Cell($"{Units.Count(PacksDeleted)}, {Units.Bytes(BytesFreed)} free again")));
        if (Problems.Count > 0)
        {
            TextLayout.Title(console, "Left alone");
            foreach (var problem in Problems)
            {
                console.Write(TextLayout.Cell(problem, TextLayout.Bad));
                console.WriteLine();
            }
            console.WriteLine("Next: virtbackup repository verify");
        }
    }
}
