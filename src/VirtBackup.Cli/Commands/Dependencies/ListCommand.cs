using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Dependencies;

internal sealed class ListCommand(CliContext context) : RemoteCommand("list", "List virtual machines that need each other, and how each tells that it is ready", context)
{
    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var response = await controller.CallAsync(controller.Recovery.GetDependenciesAsync(new GetDependenciesRequest(), cancellationToken: cancellationToken), cancellationToken);
        report.Write(DependencyListView.Of(response), DependencyTables.WriteList);
        return ExitCode.Succeeded;
    }
}
