using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Stores;

internal sealed class ShowCommand : RemoteCommand
{
    private readonly Argument<string> _store = ReferenceArguments.CopyStore();

    public ShowCommand(CliContext context)
        : base("show", "Show a second place of the repository, what is in it, and what is missing there", context) => Add(_store);

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new GetCopyStoreRequest { Name = parse.GetRequiredValue(_store) };
        var response = await controller.CallAsync(controller.Copies.GetCopyStoreAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListCopyStores);
        report.Write(CopyStoreView.Of(response.Store), CopyTables.WriteStore);
        return ExitCode.Succeeded;
    }
}
