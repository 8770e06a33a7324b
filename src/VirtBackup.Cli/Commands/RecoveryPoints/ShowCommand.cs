using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.RecoveryPoints;

internal sealed class ShowCommand : RemoteCommand
{
    private readonly Argument<string> _point = ReferenceArguments.Point();

    public ShowCommand(CliContext context, string description)
        : base("show", description, context) => Add(_point);

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var response = await controller.CallAsync(
            controller.Admin.GetRecoveryPointAsync(new GetRecoveryPointRequest { Point = parse.GetRequiredValue(_point) }, cancellationToken: cancellationToken),
            cancellationToken, NextSteps.ListPoints);
        report.Write(PointView.Of(response.RecoveryPoint), PointTables.WriteOne);
        return ExitCode.Succeeded;
    }
}
