using Spectre.Console;
using VirtBackup.Cli.Output;

namespace VirtBackup.Cli.Views;

/// <summary>Restore plans and their estimates for people.</summary>
internal static class EstimateTables
{
    public static void WriteCheck(IAnsiConsole console, RestoreCheckView check)
    {
        console.WriteLine();
        WriteFindings(console, check.Findings);
        console.Write(check.Possible
            ? new Text("\nThe restore is possible.\n", TextLayout.Good)
            : new Text("\nThe restore is not possible as asked.\n", TextLayout.Bad));
        if (check.Estimate is { } estimate)
        {
            WriteEstimate(console, estimate);
        }
    }

    public static void WriteFindings(IAnsiConsole console, IReadOnlyList<FindingView> findings)
    {
        var table = TextLayout.Columns("ITEM", "VERDICT", "MESSAGE");
        foreach (var finding in findings)
        {
            table.AddRow(TextLayout.Cell(finding.Item), TextLayout.Cell(finding.Verdict, finding.Verdict switch
            {
                "fits" => TextLayout.Good,
                "blocks" => TextLayout.Bad,
                _ => TextLayout.Doubtful,
            }), TextLayout.Cell(finding.Message));
        }
        console.Write(table);
    }

    public static void WriteEstimate(IAnsiConsole console, EstimateView estimate)
    {
        TextLayout.Title(console, "Time");
        TextLayout.Facts(
            console,
            ("Estimate", TextLayout.Cell($"{estimate.Span()} (half of such restores are over after the first, nine of ten after the second)")),
            ("To write", TextLayout.Cell(Units.Bytes(estimate.DataBytes))),
            ("Over the network", TextLayout.Cell(estimate.WireBytes is { } wire ? $"about {Units.Bytes(wire)}" : "not known without a measurement")),
            ("Path", TextLayout.Cell(estimate.Path)),
            ("Judged by", TextLayout.Cell(estimate.Basis())),
            ("Record", TextLayout.Cell(estimate.Reliance())));
    }

    /// <summary>What was said before, and whether it held; null without an estimate.</summary>
    public static string? OutcomeOf(EstimateView? estimate) => estimate switch
    {
        null => null,
        { ActualSeconds: { } actual } when actual <= estimate.P90Seconds => $"{estimate.Span()}; it held",
        { ActualSeconds: not null } => $"{estimate.Span()}; it took longer",
        _ => estimate.Span(),
    };
}
