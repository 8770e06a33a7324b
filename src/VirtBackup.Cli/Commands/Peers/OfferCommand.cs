using System.CommandLine;
using Spectre.Console;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Peers;

internal sealed class OfferCommand : RemoteCommand
{
    private readonly Argument<string> _peer = ReferenceArguments.Peer();
    private readonly Option<bool> _off = new("--off") { Description = "No longer" };

    public OfferCommand(CliContext context)
        : base("offer", "Keep a connection to another controller on which it asks: for a site that cannot dial this one", context)
    {
        Add(_peer);
        Add(_off);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new OfferToPeerRequest { Name = parse.GetRequiredValue(_peer), Offer = !parse.GetValue(_off) };
        var response = await controller.CallAsync(
            controller.Replication.OfferToPeerAsync(request, cancellationToken: cancellationToken), cancellationToken, $"virtbackup peer show {request.Name}");
        report.Write(PeerView.Of(response.Peer), static (console, peer) =>
        {
            console.Write(TextLayout.Cell(peer.Offer ? $"This controller dials '{peer.Name}' and answers it there." : $"This controller does not dial '{peer.Name}' to answer it."));
            console.WriteLine();
        });
        return ExitCode.Succeeded;
    }
}
