using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Peers;

internal sealed class ListCommand(CliContext context) : RemoteCommand("list", "List the controllers of other sites", context)
{
    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var response = await controller.CallAsync(controller.Replication.ListPeersAsync(new ListPeersRequest(), cancellationToken: cancellationToken), cancellationToken);
        report.Write(new { Peers = response.Peers.Select(PeerView.Of).ToList() }, static (console, list) => PeerTables.WriteList(console, list.Peers));
        return ExitCode.Succeeded;
    }
}
