using Spectre.Console;
using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;

namespace VirtBackup.Cli.Commands.Agents;

internal sealed class ListCommand(CliContext context) : RemoteCommand("list", "List agents", context)
{
    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var agents = (await controller.ListAgentsAsync(cancellationToken)).ConvertAll(AgentView.Of);
        report.Write(new { Agents = agents }, static (console, list) =>
        {
            if (list.Agents.Count == 0)
            {
                console.WriteLine("There are no agents. Make a join token for the first: virtbackup agent token");
                return;
            }
            var table = new ColumnTable("AGENT", "STATE", "HOST", "?HYPERVISOR", ">VMS", "?LAST SEEN", "?CERTIFICATE UNTIL", "?VERSION");
            foreach (var agent in list.Agents)
            {
                table.AddRow(
                    TextLayout.Cell(agent.Name), StateOf(agent), TextLayout.Cell(agent.HostName ?? "-"), TextLayout.Cell(agent.HypervisorKind ?? "-"),
                    TextLayout.Cell(Units.Count(agent.VirtualMachines)), TextLayout.Cell(Units.Time(agent.LastSeenTime)),
                    TextLayout.Cell(Units.Time(agent.CertificateExpireTime)), TextLayout.Cell(agent.Version ?? "-"));
            }
            table.Write(console);
        });
        return ExitCode.Succeeded;
    }

    internal static Spectre.Console.Text StateOf(AgentView agent) => TextLayout.Cell(agent.State, agent.State switch
    {
        "connected" => TextLayout.Good,
        "revoked" => TextLayout.Bad,
        _ => TextLayout.Doubtful,
    });
}
