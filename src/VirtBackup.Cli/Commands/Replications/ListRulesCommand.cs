using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Replications;

internal sealed class ListRulesCommand(CliContext context) : RemoteCommand("list", "List what is pulled from which peer", context)
{
    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var response = await controller.CallAsync(
            controller.Replication.ListReplicationRulesAsync(new ListReplicationRulesRequest(), cancellationToken: cancellationToken), cancellationToken);
        report.Write(new { Rules = response.Rules.Select(ReplicationRuleView.Of).ToList() }, static (console, list) => ReplicationTables.WriteRules(console, list.Rules));
        return ExitCode.Succeeded;
    }
}
