using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Peers;

internal sealed class TokenCommand : RemoteCommand
{
    private readonly Argument<string> _peer = new("name") { Description = "What the other controller is to be called here: a-z, 0-9, '.' and '-'" };
    private readonly Option<uint> _lifetime = TokenLifetime.Option();

    public TokenCommand(CliContext context)
        : base("token", "Make a join token, with which one other controller can join this one as a peer once; it may read nothing yet", context)
    {
        Add(_peer);
        Add(_lifetime);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new CreatePeerTokenRequest { Name = parse.GetRequiredValue(_peer), LifetimeMinutes = parse.GetValue(_lifetime) };
        var made = await controller.CallAsync(controller.Replication.CreatePeerTokenAsync(request, cancellationToken: cancellationToken), cancellationToken);
        report.Write(new { made.JoinToken, ExpireTime = made.ExpireTime.ToDateTimeOffset() }, (console, token) =>
        {
            // Alone on standard output, so that it can go to a file.
            Context.Terminal.Writer.WriteLine(TextLayout.Clean(token.JoinToken));
            report.Note($"Good for one controller until {Units.Time(token.ExpireTime)}. There, with the token in a file:  virtbackup peer add NAME --token-file FILE");
            report.Note($"What it may read is said here:  virtbackup peer allow {request.Name} --vm VM (or --all)");
        });
        return ExitCode.Succeeded;
    }
}
