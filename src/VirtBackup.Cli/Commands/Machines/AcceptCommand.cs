using System.CommandLine;
using Spectre.Console;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Machines;

internal sealed class AcceptCommand : RemoteCommand
{
    private readonly Argument<string> _machine = ReferenceArguments.Machine();

    public AcceptCommand(CliContext context)
        : base("accept", "Say that unusual backup runs of a virtual machine were meant and release what is held for them, and that a missed change was seen", context) => Add(_machine);

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new AcceptRunsRequest { Vm = parse.GetRequiredValue(_machine) };
        var response = await controller.CallAsync(
            controller.Admin.AcceptRunsAsync(request, cancellationToken: cancellationToken), cancellationToken, $"virtbackup vm show {request.Vm}");
        report.Write(new { Vm = response.VmName, response.RunsAccepted, response.HoldsReleased, response.TrackingAlertAccepted }, static (console, accepted) =>
        {
            if (accepted.TrackingAlertAccepted)
            {
                console.WriteLine($"That change tracking of {TextLayout.Clean(accepted.Vm)} missed a change is no alert any more.");
            }
            if (accepted is { TrackingAlertAccepted: true, RunsAccepted: 0 })
            {
                return;
            }
            console.Write(TextLayout.Cell(
                $"{Units.Count(accepted.RunsAccepted)} unusual {(accepted.RunsAccepted == 1 ? "run" : "runs")} of {accepted.Vm} {(accepted.RunsAccepted == 1 ? "counts" : "count")} as usual from now on; {Units.Count(accepted.HoldsReleased)} {(accepted.HoldsReleased == 1 ? "hold is" : "holds are")} released."));
            console.WriteLine();
        });
        return ExitCode.Succeeded;
    }
}
