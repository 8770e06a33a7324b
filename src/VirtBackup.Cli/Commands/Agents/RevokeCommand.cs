using Spectre.Console;
using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Agents;

internal sealed class RevokeCommand : RemoteCommand
{
    private readonly Argument<string> _name = new("agent") { Description = "Name of the agent" };

    public RevokeCommand(CliContext context)
        : base("revoke", "Take an agent's access away, at once and for good", context) => Add(_name);

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var response = await controller.CallAsync(
            controller.Admin.RevokeAgentAsync(new RevokeAgentRequest { Name = parse.GetRequiredValue(_name) }, cancellationToken: cancellationToken),
            cancellationToken, NextSteps.ListAgents);
        report.Write(AgentView.Of(response.Agent), static (console, agent) =>
        {
            console.Write(TextLayout.Cell($"Agent '{agent.Name}' is revoked: its certificate opens nothing any more. What it backed up stays."));
            console.WriteLine();
        });
        return ExitCode.Succeeded;
    }
}
