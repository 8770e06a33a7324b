using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Peers;

internal sealed class ShowCommand : RemoteCommand
{
    private readonly Argument<string> _peer = ReferenceArguments.Peer();

    public ShowCommand(CliContext context)
        : base("show", "Show another site's controller: how the two reach each other, and what it may read here", context) => Add(_peer);

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new GetPeerRequest { Name = parse.GetRequiredValue(_peer) };
        var response = await controller.CallAsync(controller.Replication.GetPeerAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListPeers);
        report.Write(PeerView.Of(response.Peer), PeerTables.WriteOne);
        return ExitCode.Succeeded;
    }
}
