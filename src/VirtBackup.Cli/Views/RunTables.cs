using System.Globalization;
using Spectre.Console;
using VirtBackup.Cli.Output;

namespace VirtBackup.Cli.Views;

/// <summary>A machine's series of runs, for people.</summary>
internal static class RunTables
{
    private const int RowsMax = 10;

    /// <summary>The newest runs, all that are unusual, and what to do about these.</summary>
    public static void Write(IAnsiConsole console, string machine, IReadOnlyList<RunView> runs)
    {
        if (runs.Count == 0)
        {
            return;
        }
        console.WriteLine();
        var table = new ColumnTable("RUN ENDED", "POINT", ">NEW", ">OF THE VM", "?>USUALLY", ">STORED OF IT", "?>USUALLY", "?>AUDITED", "VERDICT");
        foreach (var run in runs.Where((run, at) => at < RowsMax || IsAbnormal(run)))
        {
            table.AddRow(
                TextLayout.Cell(Units.Time(run.EndTime)), TextLayout.Cell(Units.ShortId(run.PointId)), TextLayout.Cell(Units.Bytes(run.NewBytes)),
                TextLayout.Cell(Percent(run.NewShare)), TextLayout.Cell(Percent(run.UsualNewShare)), TextLayout.Cell(run.NewBytes == 0 ? "-" : Percent(run.StoredShare)),
                TextLayout.Cell(run.UsualStoredShare is { } usual ? Percent(usual) : "-"), AuditOf(run), TextLayout.Cell(run.Verdict, IsAbnormal(run) ? TextLayout.Bad : default(Style?)));
        }
        table.Write(console);
        if (runs.FirstOrDefault(IsAbnormal) is not { } abnormal)
        {
            return;
        }
        console.WriteLine();
        console.Write(TextLayout.Cell($"{Units.Time(abnormal.EndTime)}: {abnormal.Explanation}", TextLayout.Bad));
        console.WriteLine();
        console.Write(TextLayout.Cell(
            $"The recovery points before it are held. If it was meant: virtbackup vm accept {machine}. If not, restore one of them: virtbackup recovery-point list --vm {machine}"));
        console.WriteLine();
    }

    private static Text AuditOf(RunView run) => run.AuditMisses > 0
        ? TextLayout.Cell($"{Units.Bytes(run.AuditedBytes)}, missed", TextLayout.Bad)
        : TextLayout.Cell(run.AuditedBytes == 0 ? "-" : Units.Bytes(run.AuditedBytes));

    private static bool IsAbnormal(RunView run) => run.Verdict == "abnormal";

    private static string Percent(double share) =>
        (share * 100).ToString(share >= 0.1 ? "0" : share is 0 or >= 0.001 ? "0.0" : "0.000", CultureInfo.InvariantCulture) + "%";
}
