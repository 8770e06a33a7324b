using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Groups;

internal sealed class ShowPointCommand : RemoteCommand
{
    private readonly Argument<string> _point = ReferenceArguments.GroupPoint();

    public ShowPointCommand(CliContext context)
        : base("show-point", "Show one recovery point of a group, and the recovery points of its machines", context) => Add(_point);

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new GetGroupPointRequest { GroupPoint = parse.GetRequiredValue(_point) };
        var response = await controller.CallAsync(controller.Groups.GetGroupPointAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListGroups);
        report.Write(GroupPointView.Of(response.GroupPoint), GroupTables.WritePoint);
        return ExitCode.Succeeded;
    }
}
