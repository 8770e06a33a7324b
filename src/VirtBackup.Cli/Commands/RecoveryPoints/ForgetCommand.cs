using Spectre.Console;
using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.RecoveryPoints;

internal sealed class ForgetCommand : RemoteCommand
{
    private readonly Argument<string> _point = ReferenceArguments.Point();
    private readonly Option<bool> _undo = new("--undo") { Description = "Bring a forgotten recovery point back" };

    public ForgetCommand(CliContext context)
        : base("forget", "Move a recovery point to the trash; --undo brings it back", context)
    {
        Add(_point);
        Add(_undo);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new ForgetRecoveryPointRequest { Point = parse.GetRequiredValue(_point), Undo = parse.GetValue(_undo) };
        var response = await controller.CallAsync(
            controller.Admin.ForgetRecoveryPointAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListPoints);
        report.Write(PointView.Of(response.RecoveryPoint), static (console, point) =>
        {
            console.Write(TextLayout.Cell(point.Forgotten
                ? $"Recovery point {point.PointId} of {point.Vm} is forgotten. Bring it back with: virtbackup recovery-point forget {point.PointId} --undo"
                : $"Recovery point {point.PointId} of {point.Vm} is back."));
            console.WriteLine();
        });
        return ExitCode.Succeeded;
    }
}
