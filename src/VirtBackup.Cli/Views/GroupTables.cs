using System.Globalization;
using Spectre.Console;
using VirtBackup.Cli.Output;

namespace VirtBackup.Cli.Views;

/// <summary>Groups and what their backups made, for people.</summary>
internal static class GroupTables
{
    public static void WriteList(IAnsiConsole console, IReadOnlyList<GroupView> groups)
    {
        if (groups.Count == 0)
        {
            console.WriteLine("There are no groups. Make one: virtbackup group create NAME VM VM");
            return;
        }
        var table = new ColumnTable("GROUP", "MACHINES", "?>SKEW BOUND", ">POINTS", "?LAST");
        foreach (var group in groups)
        {
            table.AddRow(
                TextLayout.Cell(group.Name), TextLayout.Cell(MachinesOf(group)), TextLayout.Cell($"{Units.Count(group.SkewBoundMs)} ms"), TextLayout.Cell(Units.Count(group.GroupPoints)),
                TextLayout.Cell(Units.Time(group.LastPointTime)));
        }
        table.Write(console);
    }

    public static void WriteChanged(IAnsiConsole console, GroupView group)
    {
        console.Write(TextLayout.Cell($"The group '{group.Name}' has: {MachinesOf(group)}."));
        console.WriteLine();
        console.Write(TextLayout.Cell(group.Members.Count == 0 ? $"Add machines: virtbackup group add {group.Name} VM" : $"Back it up: virtbackup group backup {group.Name}"));
        console.WriteLine();
    }

    public static void WriteOne(IAnsiConsole console, GroupView group, IReadOnlyList<GroupPointView> points)
    {
        TextLayout.Facts(
            console,
            ("Group", TextLayout.Cell(group.Name)),
            ("Machines", TextLayout.Cell(MachinesOf(group))),
            ("Skew bound", TextLayout.Cell($"{Units.Count(group.SkewBoundMs)} ms")),
            ("Recovery points", TextLayout.Cell(Units.Count(group.GroupPoints))));
        if (points.Count == 0)
        {
            return;
        }
        console.WriteLine();
        var table = new ColumnTable("POINT", "CUT", ">SKEW", "CONSISTENT", "?MACHINES");
        foreach (var point in points)
        {
            table.AddRow(
                TextLayout.Cell(Units.ShortId(point.GroupPointId)), TextLayout.Cell(Units.Time(point.CutTime)), TextLayout.Cell(SkewOf(point)), VerdictOf(point),
                TextLayout.Cell(string.Join(", ", point.Members.Select(static member => member.State == "stored" ? member.Vm : $"{member.Vm} ({member.State})"))));
        }
        table.Write(console);
    }

    public static void WriteResult(IAnsiConsole console, GroupPointView point)
    {
        TextLayout.Title(console, "Result");
        WritePoint(console, point);
    }

    public static void WritePoint(IAnsiConsole console, GroupPointView point)
    {
        TextLayout.Facts(
            console,
            ("Recovery point", TextLayout.Cell(point.GroupPointId)),
            ("Group", TextLayout.Cell(point.Group)),
            ("Cut", TextLayout.Cell(Units.Time(point.CutTime))),
            ("Skew", TextLayout.Cell($"at most {SkewOf(point)}, of {Units.Count(point.SkewBoundMs)} ms")),
            ("Consistent", VerdictOf(point)),
            ("Why not", TextLayout.Optional(point.Inconsistency)));
        console.WriteLine();
        var table = new ColumnTable("VM", "POINT", "STATE", "?HELD", "?AGENT", "?WHY");
        foreach (var member in point.Members)
        {
            table.AddRow(
                TextLayout.Cell(member.Vm), TextLayout.Cell(Units.ShortId(member.PointId)),
                TextLayout.Cell(member.State, member.State switch { "stored" => TextLayout.Good, "failed" => TextLayout.Bad, _ => TextLayout.Doubtful }),
                TextLayout.Cell(member.Held ? "yes" : "no"), TextLayout.Cell(member.Agent), TextLayout.Cell(member.Failure ?? "-"));
        }
        table.Write(console);
    }

    private static string MachinesOf(GroupView group) =>
        group.Members.Count == 0 ? "no machines" : string.Join(", ", group.Members.Select(static member => member.Agent is null ? $"{member.Vm} (gone)" : member.Vm));

    private static string SkewOf(GroupPointView point) => string.Create(CultureInfo.InvariantCulture, $"{point.SkewMs:0.0} ms");

    private static Text VerdictOf(GroupPointView point) => point.Consistent ? TextLayout.Cell("yes", TextLayout.Good)
        : TextLayout.Cell(point.Complete ? "no" : "no, incomplete", TextLayout.Doubtful);
}
