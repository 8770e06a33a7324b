using Spectre.Console;
using VirtBackup.Cli.Output;

namespace VirtBackup.Cli.Views;

/// <summary>Damage and its repair for people.</summary>
internal static class DamageTables
{
    /// <summary>Ranges shown of one damage or point; JSON has them all.</summary>
    private const int RangesShown = 20;

    public static void WriteList(IAnsiConsole console, IReadOnlyList<FoundDamageView> damages)
    {
        if (damages.Count == 0)
        {
            console.WriteLine("No damage is open.");
            return;
        }
        foreach (var damage in damages)
        {
            console.Write(TextLayout.Cell(damage.Object, damage.HealedTime is null ? TextLayout.Bad : TextLayout.Good));
            console.Write(TextLayout.Cell($": {damage.Problem}"));
            console.WriteLine();
            console.Write(TextLayout.Cell($"  found {Units.Time(damage.FoundTime)}, {(damage.HealedTime is { } healed ? $"healed {Units.Time(healed)}" : "open")}"));
            console.WriteLine();
            WriteRanges(console, damage.Ranges, damage.RangesCut);
        }
        if (damages.Any(static damage => damage.HealedTime is null && damage.Ranges.Count > 0))
        {
            console.WriteLine();
            console.WriteLine("The next backups of these machines read in full and heal what their disks still hold.");
        }
    }

    public static void WriteRanges(IAnsiConsole console, IReadOnlyList<DamagedRangeView> ranges, bool cut)
    {
        if (ranges.Count == 0)
        {
            return;
        }
        var table = new ColumnTable("VM", "POINT", "STREAM", ">FROM", ">LENGTH", "STATE");
        foreach (var range in ranges.Take(RangesShown))
        {
            table.AddRow(
                TextLayout.Cell(range.Vm ?? "-"), TextLayout.Cell(Units.ShortId(range.PointId ?? "")), TextLayout.Cell(range.Stream ?? "all"),
                TextLayout.Cell(Units.Bytes(range.Offset)), TextLayout.Cell(Units.Bytes(range.Length)),
                TextLayout.Cell(range.Doubtful ? "doubtful" : "lost", range.Doubtful ? TextLayout.Doubtful : TextLayout.Bad));
        }
        table.Write(console);
        if (ranges.Count > RangesShown || cut)
        {
            console.WriteLine(ranges.Count > RangesShown ? $"and {ranges.Count - RangesShown} more ranges: see --output json" : "and more ranges");
        }
    }

    public static void Write(IAnsiConsole console, ScrubView scrub)
    {
        TextLayout.Title(console, "Result");
        TextLayout.Facts(
            console,
            ("Read", TextLayout.Cell($"{Units.Bytes(scrub.Bytes)} in {Units.Count(scrub.Packs)} packs")),
            ("Damages", scrub.DamagesTotal == 0 ? TextLayout.Cell("none", TextLayout.Good) : TextLayout.Cell(Units.Count(scrub.DamagesTotal), TextLayout.Bad)),
            ("Healed from elsewhere", scrub.RecordsHealed > 0 ? TextLayout.Cell($"{Units.Count(scrub.RecordsHealed)} records", TextLayout.Good) : null),
            ("Without sound copy", scrub.RecordsMissing > 0 ? TextLayout.Cell($"{Units.Count(scrub.RecordsMissing)} records", TextLayout.Bad) : null));
        foreach (var finding in scrub.Findings)
        {
            console.WriteLine();
            console.Write(TextLayout.Cell(finding.Object, TextLayout.Bad));
            console.Write(TextLayout.Cell($": {finding.Problem}"));
            console.WriteLine();
            console.Write(TextLayout.Cell(
                $"  records: {Units.Count(finding.RecordsLost)} lost, {Units.Count(finding.RecordsDoubtful)} doubtful, {Units.Count(finding.RecordsSaved)} saved, {Units.Count(finding.RecordsCovered)} with another copy"));
            console.WriteLine();
        }
        foreach (var problem in scrub.Problems)
        {
            console.WriteLine();
            console.Write(TextLayout.Cell(problem.Object, TextLayout.Bad));
            console.Write(TextLayout.Cell($": {problem.Problem}"));
            console.WriteLine();
        }
        if (scrub.DamagesTotal > 0)
        {
            console.WriteLine();
            console.WriteLine("What that takes from whom: virtbackup repository damage list");
        }
    }

    /// <summary>The facts of a proof.</summary>
    public static (string, Text?)[] FactsOf(ProofView? proof) => proof is null ? [] :
    [
        ("Proven", TextLayout.Cell(
            proof.Bytes == 0 ? "nothing is stored" : $"{Units.Percent(proof.ProvenBytes, proof.Bytes)} within {proof.Days} days ({Units.Bytes(proof.ProvenBytes)} of {Units.Bytes(proof.Bytes)})",
            proof.ProvenBytes == proof.Bytes ? TextLayout.Good : TextLayout.Doubtful)),
        ("Oldest proof", proof.Bytes == 0 ? null : proof.Unproven ? TextLayout.Cell("some was never read again", TextLayout.Doubtful)
            : proof.OldestTime is { } oldest ? TextLayout.Cell(Units.Time(oldest)) : null),
        ("Scrub", TextLayout.Cell(proof.Off ? "off" : proof.CycleTime is { } cycle ? $"everything due was read at {Units.Time(cycle)}" : "under way", proof.Off ? TextLayout.Doubtful : default(Style?))),
        ("Damage", proof.DamagesOpen + proof.PointsDamaged == 0 ? TextLayout.Cell("none is open", TextLayout.Good)
            : TextLayout.Cell($"{Units.Count(proof.DamagesOpen)} objects, {Units.Count(proof.PointsDamaged)} recovery points: see 'virtbackup repository damage list'", TextLayout.Bad)),
    ];
}
