using Spectre.Console;
using VirtBackup.Cli.Output;

namespace VirtBackup.Cli.Views;

/// <summary>Rule sets, simulations and what retention did, for people.</summary>
internal static class RetentionTables
{
    public static void WriteList(IAnsiConsole console, IReadOnlyList<RuleSetView> sets)
    {
        if (sets.Count == 0)
        {
            console.WriteLine("There are no rule sets, so every recovery point is kept. Make one: virtbackup retention set NAME --daily 7 --weekly 4 --default");
            return;
        }
        var table = new ColumnTable("RULE SET", "KEEPS", "DEFAULT", ">VMS", "?CHANGED");
        foreach (var set in sets)
        {
            table.AddRow(
                TextLayout.Cell(set.Name), TextLayout.Cell(set.Rules.Text), TextLayout.Cell(set.IsDefault ? "yes" : "-"), TextLayout.Cell(Units.Count(set.VirtualMachines)),
                TextLayout.Cell(Units.Time(set.ChangeTime)));
        }
        table.Write(console);
    }

    public static void WriteOne(IAnsiConsole console, RuleSetView set, IReadOnlyList<string> machines) => TextLayout.Facts(
        console,
        ("Rule set", TextLayout.Cell(set.Name)),
        ("Keeps", TextLayout.Cell(set.Rules.Text)),
        ("Default", TextLayout.Cell(set.IsDefault ? "yes, for machines without a rule set of their own" : "no")),
        ("Machines", TextLayout.Cell(machines.Count == 0 ? "none has it as its own" : string.Join(", ", machines))),
        ("Changed", TextLayout.Cell(Units.Time(set.ChangeTime))));

    public static void WriteGoverned(IAnsiConsole console, GovernedView machine)
    {
        console.Write(TextLayout.Cell($"{machine.Vm} is governed by: {machine.Retention.Text}."));
        console.WriteLine();
        console.Write(TextLayout.Cell($"What goes, and when: virtbackup retention simulate {machine.Vm}"));
        console.WriteLine();
    }

    public static void WriteSimulation(IAnsiConsole console, SimulationView simulation)
    {
        TextLayout.Facts(
            console,
            ("VM", TextLayout.Cell(simulation.Vm)),
            ("Rules", TextLayout.Cell(simulation.RuleSet is { } name ? $"{name}: {simulation.Rules.Text}" : simulation.Rules.Text)),
            ("Further points", TextLayout.Cell(simulation.IntervalMinutes == 0 ? "none" : $"every {Units.Duration(TimeSpan.FromMinutes(simulation.IntervalMinutes))}")),
            ("Simulated", TextLayout.Cell($"{Units.Time(simulation.Now)} to {Units.Time(simulation.SimulatedUntil)}")),
            ("Points then", TextLayout.Cell(Units.Count(simulation.PointsAtEnd))));
        if (simulation.RecoveryPoints.Count == 0)
        {
            return;
        }
        console.WriteLine();
        var table = new ColumnTable("POINT", ">SEQ", "CREATED", "GOES", "?KEPT BY");
        foreach (var point in simulation.RecoveryPoints)
        {
            table.AddRow(
                TextLayout.Cell(Units.ShortId(point.PointId)), TextLayout.Cell(Units.Count(point.Sequence)), TextLayout.Cell(Units.Time(point.CreateTime)),
                ExpiryOf(point.Retention), TextLayout.Cell(KeptByOf(point.Retention)));
        }
        table.Write(console);
    }

    public static void WriteResult(IAnsiConsole console, RetentionResultView result)
    {
        TextLayout.Title(console, "Result");
        TextLayout.Facts(
            console,
            ("Expired", TextLayout.Cell(Units.Count(result.ExpiredTotal))),
            ("Failed", result.FailedTotal > 0 ? TextLayout.Cell(Units.Count(result.FailedTotal), TextLayout.Bad) : null),
            ("Kept", TextLayout.Cell(Units.Count(result.PointsKept))));
        foreach (var (title, points) in new[] { ("Expired", result.Expired), ("Could not go", result.Failed) })
        {
            if (points.Count == 0)
            {
                continue;
            }
            TextLayout.Title(console, title);
            var table = new ColumnTable("POINT", "VM", "CREATED", "?WHY");
            foreach (var point in points)
            {
                table.AddRow(TextLayout.Cell(Units.ShortId(point.PointId)), TextLayout.Cell(point.Vm), TextLayout.Cell(Units.Time(point.CreateTime)), TextLayout.Cell(point.Reason));
            }
            table.Write(console);
        }
    }

    public static string KeptByOf(PointRetentionView? retention) => retention is { KeptBy: [_, ..] reasons } ? string.Join(", ", reasons) : "-";

    public static Text ExpiryOf(PointRetentionView? retention) => retention switch
    {
        null => TextLayout.Cell("-"),
        { KeptBy: [] } => TextLayout.Cell("at the next run", TextLayout.Doubtful),
        { ExpireTime: { } time } => TextLayout.Cell(Units.Time(time)),
        { Holds: [_, ..] } => TextLayout.Cell("when released"),
        { RuleSet: null } => TextLayout.Cell("never"),
        _ => TextLayout.Cell("not foreseen"),
    };
}
