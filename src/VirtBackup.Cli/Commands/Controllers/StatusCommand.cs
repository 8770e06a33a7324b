using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Controllers;

internal sealed class StatusCommand(CliContext context) : RemoteCommand("status", "Show whether the controller runs, and what it has", context)
{
    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var status = await controller.CallAsync(
            controller.Admin.GetStatusAsync(new GetStatusRequest(), cancellationToken: cancellationToken), cancellationToken);
        report.Write(StatusView.Of(controller.Address, status), static (console, view) => TextLayout.Facts(
            console,
            ("Controller", TextLayout.Cell($"{view.Controller}, version {view.Version}")),
            ("Running since", TextLayout.Cell(Units.Time(view.StartTime))),
            ("Agents", TextLayout.Cell($"{view.AgentsConnected} connected of {view.AgentsEnrolled}")),
            ("Virtual machines", TextLayout.Cell(Units.Count(view.VirtualMachines))),
            ("Unusual runs", view.VirtualMachinesFlagged > 0
                ? TextLayout.Cell($"on {Units.Count(view.VirtualMachinesFlagged)} virtual {(view.VirtualMachinesFlagged == 1 ? "machine" : "machines")}: see 'virtbackup vm list'", TextLayout.Bad)
                : null),
            ("Missed changes", view.VirtualMachinesSuspect > 0
                ? TextLayout.Cell($"by the change tracking of {Units.Count(view.VirtualMachinesSuspect)} virtual {(view.VirtualMachinesSuspect == 1 ? "machine" : "machines")}: see 'virtbackup vm list'", TextLayout.Bad)
                : null),
            ("Recovery points", TextLayout.Cell(Units.Count(view.RecoveryPoints))),
            ("Jobs running", TextLayout.Cell(Units.Count(view.JobsRunning))),
            ("Time", view.TimeUnconfirmed
                ? TextLayout.Cell($"not confirmed since {Units.Time(view.TrustedTime)}: nothing expires until you run 'virtbackup controller confirm-time'", TextLayout.Bad)
                : null),
            ("Repository", TextLayout.Cell(view.RepositoryLocation)),
            ("Stored", TextLayout.Cell(Units.Bytes(view.StoredBytes))),
            ("Free", view.FreeBytes is { } free ? TextLayout.Cell(Units.Bytes(free)) : null)));
        return ExitCode.Succeeded;
    }
}
