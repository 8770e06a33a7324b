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
            var table = TextLayout.Columns("VM", "ID", "AGENT", "STATE", ">DISKS", ">SIZE", ">POINTS", "LAST POINT", "PROBLEM");
            foreach (var machine in list.VirtualMachines)
            {
                table.AddRow(
                    TextLayout.Cell(machine.Name), TextLayout.Cell(Units.ShortId(machine.VmId)), TextLayout.Cell(machine.Agent ?? "-"),
                    TextLayout.Cell(machine.State, machine.State == "gone" ? TextLayout.Faint : default(Style?)), TextLayout.Cell(Units.Count((ulong)machine.Disks.Count)),
                    TextLayout.Cell(Units.Bytes(Total(machine))), TextLayout.Cell(Units.Count(machine.RecoveryPoints)),
                    TextLayout.Cell(Units.Time(machine.LastPointTime)), TextLayout.Cell(machine.Problem ?? "-", machine.Problem is null ? default(Style?) : (Style?)TextLayout.Bad));
            }
            console.Write(table);
        });
        return ExitCode.Succeeded;
    }

    private static ulong Total(MachineView machine) => machine.Disks.Aggregate(0UL, static (sum, disk) => sum + disk.LengthBytes);
}
