using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Recoveries;

internal sealed class ListCommand(CliContext context) : RemoteCommand("list", "List recoveries of several virtual machines: what was foretold, and what they took", context)
{
    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var response = await controller.CallAsync(controller.Recovery.ListRecoveriesAsync(new ListRecoveriesRequest(), cancellationToken: cancellationToken), cancellationToken);
        report.Write(new { Recoveries = response.Runs.Select(RecoveryRunView.Of).ToList() }, static (console, list) => RecoveryTables.WriteList(console, list.Recoveries));
        return ExitCode.Succeeded;
    }
}
