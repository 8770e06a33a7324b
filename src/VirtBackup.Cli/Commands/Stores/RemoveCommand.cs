using System.CommandLine;
using Spectre.Console;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Stores;

internal sealed class RemoveCommand : RemoteCommand
{
    private readonly Argument<string> _store = ReferenceArguments.CopyStore();

    public RemoveCommand(CliContext context)
        : base("remove", "Stop keeping a second place of the repository; what is in it stays", context) => Add(_store);

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var name = parse.GetRequiredValue(_store);
        await controller.CallAsync(
            controller.Copies.RemoveCopyStoreAsync(new RemoveCopyStoreRequest { Name = name }, cancellationToken: cancellationToken), cancellationToken,
            $"{NextSteps.ListCopyStores}; {NextSteps.ListCopyPolicies}");
        report.Write(new { Removed = name }, static (console, done) =>
        {
            console.Write(TextLayout.Cell($"'{done.Removed}' is no copy store any more. What is in it stays, and a controller can be set up over it with the recovery kit."));
            console.WriteLine();
        });
        return ExitCode.Succeeded;
    }
}
