using Spectre.Console;
using VirtBackup.Cli.Output;

namespace VirtBackup.Cli.Views;

/// <summary>Recoveries of several machines, for people.</summary>
internal static class RecoveryTables
{
    public static void Write(IAnsiConsole console, RecoveryView recovery)
    {
        console.WriteLine();
        var table = recovery.DryRun
            ? new ColumnTable(">STAGE", "VM", "NEEDS", ">RESTORE", ">READY AFTER", "?AGENT", "?POINT", "?OF")
            : new ColumnTable(">STAGE", "VM", "NEEDS", "STATE", "?>RESTORE", "?>WAITED", "?>READY AFTER", "?AGENT", "?POINT");
        foreach (var machine in recovery.Machines)
        {
            Text[] first = [TextLayout.Cell(Units.Count(machine.Stage)), TextLayout.Cell(machine.Vm), TextLayout.Cell(machine.Needs.Count == 0 ? "-" : string.Join(", ", machine.Needs))];
            Text[] last = [TextLayout.Cell(machine.Agent), TextLayout.Cell(Units.ShortId(machine.PointId))];
            table.AddRow(recovery.DryRun
                ?
                [
                    .. first, TextLayout.Cell(Span(machine.RestoreP50Seconds, machine.RestoreP90Seconds)), TextLayout.Cell(Span(machine.ReadyP50Seconds, machine.ReadyP90Seconds)), .. last,
                    TextLayout.Cell(Units.Time(machine.PointTime)),
                ]
                : [.. first, StateOf(machine), TextLayout.Cell(Shown(machine.RestoreSeconds)), TextLayout.Cell(Shown(machine.WaitSeconds)), TextLayout.Cell(Shown(machine.ReadySeconds)), .. last]);
        }
        table.Write(console);
        foreach (var machine in recovery.Machines.Where(static machine => machine.Message is not null))
        {
            console.WriteLine();
            console.Write(TextLayout.Cell($"{machine.Vm}: {machine.Message}", TextLayout.Bad));
            console.WriteLine();
        }
        if (recovery.DryRun)
        {
            var unprobed = recovery.Machines.Where(static machine => machine.Probe == "started").Select(static machine => machine.Vm).ToList();
            console.WriteLine();
            console.Write(TextLayout.Cell(unprobed.Count == 0 ? "Nothing was restored: this is a plan."
                : $"Nothing was restored: this is a plan. Without a probe, and so ready as soon as they run: {string.Join(", ", unprobed)}. See: virtbackup dependency probe --help"));
            console.WriteLine();
        }
        WriteTimes(console, recovery);
    }

    public static void WriteList(IAnsiConsole console, IReadOnlyList<RecoveryRunView> runs)
    {
        if (runs.Count == 0)
        {
            console.WriteLine("Nothing was recovered yet. See how it would go: virtbackup recovery plan --all --folder DIR");
            return;
        }
        var table = new ColumnTable("JOB", "BEGUN", ">VMS", ">PREDICTED", ">TOOK", "VERDICT");
        foreach (var run in runs)
        {
            table.AddRow(
                TextLayout.Cell(Units.ShortId(run.JobId)), TextLayout.Cell(Units.Time(run.CreateTime)), TextLayout.Cell(Units.Count(run.VirtualMachines)),
                TextLayout.Cell(Span(run.PredictedSeconds, run.PredictedP90Seconds)), TextLayout.Cell(Shown(run.ActualSeconds)),
                run.ActualSeconds is not { } actual ? TextLayout.Cell("-") : Verdict(actual, run.PredictedP90Seconds));
        }
        table.Write(console);
    }

    private static void WriteTimes(IAnsiConsole console, RecoveryView recovery)
    {
        TextLayout.Title(console, "Time");
        TextLayout.Facts(
            console,
            ("Predicted", TextLayout.Cell($"{Span(recovery.PredictedSeconds, recovery.PredictedP90Seconds)} (when all take their P50, and when all take their P90)")),
            ("Critical path", TextLayout.Optional(PathText(recovery.PredictedPath))),
            ("Took", recovery.ActualSeconds is { } actual ? Verdict(actual, recovery.PredictedP90Seconds, Shown(actual)) : null),
            ("Path that was", TextLayout.Optional(recovery.PathSeconds is { } path ? $"{PathText(recovery.ActualPath)} ({Shown(path)})" : null)),
            ("Side by side", TextLayout.Optional(recovery.Parallel is { } parallel ? $"at most {parallel}" : null)),
            ("Record", TextLayout.Cell(recovery.Record.Reliance("no prediction has been put to the test yet", recovery.Record.Scored == 1 ? "recovery" : "recoveries"))));
    }

    private static string PathText(IReadOnlyList<RecoveryLegView> path) => string.Join(" → ", path.Select(static leg => $"{leg.Vm} {(leg.Start ? "ready" : "restored")} {Shown(leg.EndSeconds - leg.BeginSeconds)}"));

    private static Text Verdict(double actual, double p90, string shown = "") => actual <= p90
        ? TextLayout.Cell($"{shown}{(shown.Length > 0 ? "; " : "")}the prediction held", TextLayout.Good)
        : TextLayout.Cell($"{shown}{(shown.Length > 0 ? "; " : "")}longer than predicted", TextLayout.Doubtful);

    private static Text StateOf(RecoveredMachineView machine) => machine.State switch
    {
        "ready" => TextLayout.Cell("ready", TextLayout.Good),
        "failed" => TextLayout.Cell("failed", TextLayout.Bad),
        "not_started" => TextLayout.Cell("not started", TextLayout.Doubtful),
        _ => TextLayout.Cell(machine.State),
    };

    private static string Span(double p50, double p90) => $"{Shown(p50)} to {Shown(p90)}";

    private static string Shown(double? seconds) => seconds is { } value ? Units.Duration(TimeSpan.FromSeconds(Math.Min(value, TimeSpan.FromDays(9999).TotalSeconds))) : "-";
}
