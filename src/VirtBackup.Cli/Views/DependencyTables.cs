using Spectre.Console;
using VirtBackup.Cli.Output;

namespace VirtBackup.Cli.Views;

/// <summary>Dependencies between machines, for people.</summary>
internal static class DependencyTables
{
    public static void WriteOne(IAnsiConsole console, DependencyView machine) => TextLayout.Facts(
        console,
        ("VM", TextLayout.Cell(machine.Vm)),
        ("Needs", TextLayout.Cell(machine.Needs.Count == 0 ? "none" : string.Join(", ", machine.Needs))),
        ("Ready when", TextLayout.Cell(ReadyOf(machine))));

    public static void WriteList(IAnsiConsole console, DependencyListView list)
    {
        if (IsEmpty(console, list))
        {
            return;
        }
        var table = new ColumnTable("VM", "NEEDS", "READY WHEN", "?>TIMEOUT");
        foreach (var machine in list.Machines.OrderBy(static machine => machine.Vm, StringComparer.Ordinal))
        {
            table.AddRow(
                TextLayout.Cell(machine.Vm), TextLayout.Cell(machine.Needs.Count == 0 ? "-" : string.Join(", ", machine.Needs)), TextLayout.Cell(ReadyOf(machine)),
                TextLayout.Cell(machine.TimeoutSeconds is { } seconds ? Units.Duration(TimeSpan.FromSeconds(seconds)) : "-"));
        }
        table.Write(console);
    }

    public static void WriteStages(IAnsiConsole console, DependencyListView list)
    {
        if (IsEmpty(console, list))
        {
            return;
        }
        foreach (var stage in list.Machines.GroupBy(static machine => machine.Stage))
        {
            TextLayout.Title(console, stage.Key == 1 ? "Stage 1: at once" : $"Stage {stage.Key}: when what they need is ready");
            foreach (var machine in stage)
            {
                console.Write(TextLayout.Cell($"  {machine.Vm}{(machine.Needs.Count == 0 ? "" : $" needs {string.Join(", ", machine.Needs)}")}; ready when {ReadyOf(machine)}"));
                console.WriteLine();
            }
        }
    }

    /// <summary>A probe in a sentence that begins with "ready when".</summary>
    public static string ReadyOf(string probe) => probe.Split(' ', 2) switch
    {
        ["guest-agent"] => "its guest agent answers",
        ["tcp", var target] => $"{target} accepts connections",
        ["http", var url] => $"{url} answers",
        ["command", var name] => $"the command '{name}' succeeds",
        _ => "it runs (no probe)",
    };

    private static string ReadyOf(DependencyView machine) => ReadyOf(machine.Probe);

    private static bool IsEmpty(IAnsiConsole console, DependencyListView list)
    {
        if (list.Machines.Count == 0)
        {
            console.WriteLine("No virtual machine needs another, so that all are started at once. Change that: virtbackup dependency add VM --needs VM");
        }
        return list.Machines.Count == 0;
    }
}
