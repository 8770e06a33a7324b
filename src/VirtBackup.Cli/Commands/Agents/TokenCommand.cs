using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Agents;

internal sealed class TokenCommand : RemoteCommand
{
    private readonly Option<string?> _name = new("--name") { Description = "Admit only an agent of this name [default: any]", HelpName = "NAME" };

    private readonly Option<uint> _lifetime = TokenLifetime.Option();

    public TokenCommand(CliContext context)
        : base("token", "Make a join token, with which one agent can enroll once", context)
    {
        Add(_name);
        Add(_lifetime);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new CreateJoinTokenRequest { AgentName = parse.GetValue(_name) ?? "", LifetimeMinutes = parse.GetValue(_lifetime) };
        var made = await controller.CallAsync(controller.Admin.CreateJoinTokenAsync(request, cancellationToken: cancellationToken), cancellationToken);
        report.Write(new { made.JoinToken, ExpireTime = made.ExpireTime.ToDateTimeOffset() }, (console, token) =>
        {
            // Alone on standard output, so that $(virtbackup agent token) is the token.
            Context.Terminal.Writer.WriteLine(TextLayout.Clean(token.JoinToken));
            report.Note($"Good for one agent until {Units.Time(token.ExpireTime)}. On the agent's host, run:  virtbackup agent enroll TOKEN");
        });
        return ExitCode.Succeeded;
    }
}
