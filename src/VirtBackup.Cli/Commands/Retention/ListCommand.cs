using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Retention;

internal sealed class ListCommand(CliContext context) : RemoteCommand("list", "List rule sets", context)
{
    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var response = await controller.CallAsync(
            controller.Retention.ListRuleSetsAsync(new ListRuleSetsRequest(), cancellationToken: cancellationToken), cancellationToken);
        report.Write(new { RuleSets = response.RuleSets.Select(RuleSetView.Of).ToList() }, static (console, list) => RetentionTables.WriteList(console, list.RuleSets));
        return ExitCode.Succeeded;
    }
}
