using System.CommandLine;
using Spectre.Console;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Peers;

internal sealed class RevokeCommand : RemoteCommand
{
    private readonly Argument<string> _peer = ReferenceArguments.Peer();

    public RevokeCommand(CliContext context)
        : base("revoke", "Take another controller's access away, at once; a new token admits it again", context) => Add(_peer);

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new RevokePeerRequest { Name = parse.GetRequiredValue(_peer) };
        var response = await controller.CallAsync(controller.Replication.RevokePeerAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListPeers);
        report.Write(PeerView.Of(response.Peer), static (console, peer) =>
        {
            console.Write(TextLayout.Cell($"Peer '{peer.Name}' is revoked: its certificate opens nothing here any more. What it has read stays with it."));
            console.WriteLine();
        });
        return ExitCode.Succeeded;
    }
}
