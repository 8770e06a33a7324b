using System.CommandLine;
using Spectre.Console;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.RecoveryPoints;

internal sealed class HoldCommand : RemoteCommand
{
    private readonly Argument<string> _point = ReferenceArguments.Point();
    private readonly Option<string> _reason = new("--reason") { Description = "Why it is held, so that others know when to release it", HelpName = "TEXT", Required = true };

    public HoldCommand(CliContext context)
        : base("hold", "Keep a recovery point until it is released, whatever the rules say", context)
    {
        Add(_point);
        Add(_reason);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new HoldPointRequest { Point = parse.GetRequiredValue(_point), Reason = parse.GetRequiredValue(_reason) };
        var response = await controller.CallAsync(
            controller.Retention.HoldPointAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListPoints);
        report.Write(new { Hold = HoldView.Of(response.Hold), RecoveryPoint = PointView.Of(response.RecoveryPoint) }, static (console, done) =>
        {
            var point = done.RecoveryPoint;
            console.Write(TextLayout.Cell(
                $"Recovery point {point.PointId} of {point.Vm} is held. Release it with: virtbackup recovery-point release {point.PointId} --hold {Units.ShortId(done.Hold.HoldId)}"));
            console.WriteLine();
        });
        return ExitCode.Succeeded;
    }
}
