using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Groups;

internal sealed class ListCommand(CliContext context) : RemoteCommand("list", "List groups", context)
{
    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var response = await controller.CallAsync(controller.Groups.ListGroupsAsync(new ListGroupsRequest(), cancellationToken: cancellationToken), cancellationToken);
        report.Write(new { Groups = response.Groups.Select(GroupView.Of).ToList() }, static (console, list) => GroupTables.WriteList(console, list.Groups));
        return ExitCode.Succeeded;
    }
}
