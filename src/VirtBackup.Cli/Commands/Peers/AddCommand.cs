using System.CommandLine;
using Spectre.Console;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Core;
using VirtBackup.Identity;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Peers;

internal sealed class AddCommand : RemoteCommand
{
    private readonly Argument<string> _peer = new("name") { Description = "What the other controller is to be called here: a-z, 0-9, '.' and '-'" };

    private readonly Option<string> _tokenFile = new("--token-file")
    {
        Description = "File with the join token that was made there (virtbackup peer token), or - to read it from standard input", HelpName = "FILE", Required = true,
    };

    private readonly Option<string?> _controller = new("--controller") { Description = "Address of the other controller [default: as the token says]", HelpName = "HOST:PORT" };
    private readonly Option<bool> _offer = new("--offer") { Description = "Keep a connection to it on which it asks: for a site that cannot dial this one" };

    public AddCommand(CliContext context)
        : base("add", "Join another controller as its peer, with a token that was made there; the key for it is made by this controller and stays with it", context)
    {
        Add(_peer);
        Add(_tokenFile);
        Add(_controller);
        Add(_offer);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var address = parse.GetValue(_controller) ?? "";
        if (address.Length > 0)
        {
            _ = ControllerAddress.ToUri(address);
        }
        var request = new AddPeerRequest
        {
            Name = parse.GetRequiredValue(_peer), Controller = address, Offer = parse.GetValue(_offer),
            JoinToken = await ReadTokenAsync(parse.GetRequiredValue(_tokenFile), cancellationToken),
        };
        var added = await controller.CallAsync(
            controller.Replication.AddPeerAsync(request, cancellationToken: cancellationToken), cancellationToken,
            "check that the other controller runs and can be reached from this controller's host, or make a new token there: virtbackup peer token NAME");
        report.Write(PeerView.Of(added.Peer), static (console, peer) =>
        {
            console.Write(TextLayout.Cell($"This controller has joined '{peer.Name}' at {peer.Controller}.", TextLayout.Good));
            console.WriteLine();
            TextLayout.Facts(
                console,
                ("Repository there", TextLayout.Optional(peer.RepositoryId)),
                ("Certificate until", TextLayout.Cell($"{Units.Time(peer.OurCertificateExpireTime)}; it is renewed by itself")),
                ("Next", TextLayout.Cell(peer.Offer
                    ? "there: virtbackup replication rule set, and here what it may read: " + $"virtbackup peer allow {peer.Name} --all"
                    : $"have it allow something there (virtbackup peer allow), then here: virtbackup replication rule set {peer.Name} --continuous")));
        });
        return ExitCode.Succeeded;
    }

    /// <summary>The token, which must be one: the other controller is not asked with anything else.</summary>
    private async Task<string> ReadTokenAsync(string file, CancellationToken cancellationToken)
    {
        var text = (file == "-" ? await Context.Terminal.Input.ReadLineAsync(cancellationToken) ?? "" : await ReadFileAsync(file, cancellationToken)).Trim();
        try
        {
            using var token = JoinToken.Parse(text);
            return token.Details.Role == PeerRole.Peer
                ? text
                : throw CommandFault.Usage("This join token is for an agent, not for a controller.", "make one at the other site: virtbackup peer token NAME");
        }
        catch (FaultException fault)
        {
            throw new CommandFault(ExitCode.Usage, fault.Message, "put the line that 'virtbackup peer token' printed there into the file, or make a new token with it", fault);
        }
    }

    private static async Task<string> ReadFileAsync(string file, CancellationToken cancellationToken)
    {
        try
        {
            using var reader = new StreamReader(file);
            var buffer = new char[JoinToken.TextLengthMax + 2];
            var length = await reader.ReadBlockAsync(buffer, cancellationToken);
            return new string(buffer, 0, length);
        }
        catch (IOException failed)
        {
            throw new CommandFault(ExitCode.Usage, $"The join token cannot be read: {failed.Message}", "name the file with the line that 'virtbackup peer token' printed: --token-file FILE", failed);
        }
    }
}
