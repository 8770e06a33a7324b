using Spectre.Console;
using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;

namespace VirtBackup.Cli.Commands.Machines;

internal sealed class ListCommand(CliContext context) : RemoteCommand("list", "List virtual machines", context)
{
    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var machines = (await controller.ListMachinesAsync(cancellationToken)).ConvertAll(MachineView.Of);
        report.Write(new { VirtualMachines = machines }, static (console, list) =>
        {
            if (list.VirtualMachines.Count == 0)
            {
                console.WriteLine("There are no virtual machines. They appear when an agent is enrolled and runs: virtbackup agent token");
                return;
            }
            var table = new ColumnTable("VM", "AGENT", "STATE", "?>DISKS", ">SIZE", ">POINTS", "?LAST POINT", "?ID");
            foreach (var machine in list.VirtualMachines)
            {
                table.AddRow(
                    TextLayout.Cell(machine.Name), TextLayout.Cell(machine.Agent ?? "-"),
                    TextLayout.Cell(machine.Whereabouts, machine.Problem is not null ? TextLayout.Bad : !machine.Present ? TextLayout.Faint : default(Style?)),
                    TextLayout.Cell(Units.Count((ulong)machine.Disks.Count)), TextLayout.Cell(Units.Bytes(Total(machine))), TextLayout.Cell(Units.Count(machine.RecoveryPoints)),
                    TextLayout.Cell(Units.Time(machine.LastPointTime)), TextLayout.Cell(Units.ShortId(machine.VmId)));
            }
            table.Write(console);
            foreach (var machine in list.VirtualMachines.Where(static machine => machine.Problem is not null))
            {
                console.Write(TextLayout.Cell($"{machine.Name}: {machine.Problem}", TextLayout.Bad));
                console.WriteLine();
            }
            foreach (var machine in list.VirtualMachines.Where(static machine => machine.FlaggedRuns > 0))
            {
                console.Write(TextLayout.Cell(
                    $"{machine.Name}: {machine.FlaggedRuns} unusual backup {(machine.FlaggedRuns == 1 ? "run" : "runs")}, the points before are held. See: virtbackup vm show {machine.Name}", TextLayout.Bad));
                console.WriteLine();
            }
            foreach (var machine in list.VirtualMachines.Where(static machine => machine.TrackingAlert))
            {
                console.Write(TextLayout.Cell($"{machine.Name}: its change tracking missed a change. See: virtbackup vm show {machine.Name}", TextLayout.Bad));
                console.WriteLine();
            }
        });
        return ExitCode.Succeeded;
    }

    private static ulong Total(MachineView machine) => machine.Disks.Aggregate(0UL, static (sum, disk) => sum + disk.LengthBytes);
}
