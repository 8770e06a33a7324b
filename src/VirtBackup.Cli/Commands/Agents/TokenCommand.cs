using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Agents;

internal sealed class TokenCommand : RemoteCommand
{
    private const uint MinutesMax = 10_080;

    private readonly Option<string?> _name = new("--name") { Description = "Admit only an agent of this name [default: any]", HelpName = "NAME" };

    private readonly Option<uint> _lifetime = new("--lifetime")
    {
        Description = "How long the token is good: 30m, 12h or 7d; at most 7d", HelpName = "TIME",
        CustomParser = ParseMinutes, DefaultValueFactory = static _ => 60,
    };

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

    private static uint ParseMinutes(ArgumentResult result)
    {
        var text = result.Tokens is [{ Value: var value }] ? value : "";
        var factor = text is [.., 'm'] ? 1u : text is [.., 'h'] ? 60u : text is [.., 'd'] ? 1440u : 0u;
        if (factor > 0 && uint.TryParse(text[..^1], NumberStyles.None, CultureInfo.InvariantCulture, out var count)
            && count > 0 && count <= MinutesMax / factor)
        {
            return count * factor;
        }
        result.AddError($"'{text}' is not a lifetime: write it like 30m, 12h or 7d, with at most 7d.");
        return 0;
    }
}
