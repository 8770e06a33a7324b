using System.CommandLine;
using Spectre.Console;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.RecoveryPoints;

internal sealed class ReleaseCommand : RemoteCommand
{
    private readonly Argument<string> _point = ReferenceArguments.Point();
    private readonly Option<string?> _hold = new("--hold") { Description = "Id of the hold, or a start of it [default: the only one]", HelpName = "HOLD" };

    public ReleaseCommand(CliContext context)
        : base("release", "Release a hold of a recovery point", context)
    {
        Add(_point);
        Add(_hold);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new ReleasePointRequest { Point = parse.GetRequiredValue(_point), HoldId = parse.GetValue(_hold) ?? "" };
        var response = await controller.CallAsync(
            controller.Retention.ReleasePointAsync(request, cancellationToken: cancellationToken), cancellationToken, $"virtbackup recovery-point show {request.Point}");
        report.Write(PointView.Of(response.RecoveryPoint), static (console, point) =>
        {
            console.Write(TextLayout.Cell(point.Retention is { Holds: [var left, ..] }
                ? $"The hold is released; recovery point {point.PointId} of {point.Vm} is still held: {left.Reason}."
                : $"The hold is released; recovery point {point.PointId} of {point.Vm} goes as the rules say."));
            console.WriteLine();
        });
        return ExitCode.Succeeded;
    }
}
