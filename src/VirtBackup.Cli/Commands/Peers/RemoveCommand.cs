using System.CommandLine;
using Spectre.Console;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Peers;

internal sealed class RemoveCommand : RemoteCommand
{
    private readonly Argument<string> _peer = ReferenceArguments.Peer();

    public RemoveCommand(CliContext context)
        : base("remove", "Revoke another controller, and forget it, its rule and this controller's key for it; what came from it stays", context) => Add(_peer);

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var name = parse.GetRequiredValue(_peer);
        await controller.CallAsync(controller.Replication.RemovePeerAsync(new RemovePeerRequest { Name = name }, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListPeers);
        report.Write(new { Removed = name }, static (console, done) =>
        {
            console.Write(TextLayout.Cell($"Peer '{done.Removed}' is removed. What came from it stays until its retention ends."));
            console.WriteLine();
        });
        return ExitCode.Succeeded;
    }
}
