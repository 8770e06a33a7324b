using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Stores;

internal sealed class ListCommand(CliContext context) : RemoteCommand("list", "List second places of the repository, and how far they are", context)
{
    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var response = await controller.CallAsync(controller.Copies.ListCopyStoresAsync(new ListCopyStoresRequest(), cancellationToken: cancellationToken), cancellationToken);
        report.Write(new { Stores = response.Stores.Select(CopyStoreView.Of).ToList() }, static (console, list) => CopyTables.WriteStores(console, list.Stores));
        return ExitCode.Succeeded;
    }
}
