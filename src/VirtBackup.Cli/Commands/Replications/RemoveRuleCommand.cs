using System.CommandLine;
using Spectre.Console;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Replications;

internal sealed class RemoveRuleCommand : RemoteCommand
{
    private readonly Argument<string> _peer = ReferenceArguments.Peer();

    public RemoveRuleCommand(CliContext context)
        : base("remove", "Pull nothing more from a peer by itself; what came from it stays", context) => Add(_peer);

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var peer = parse.GetRequiredValue(_peer);
        await controller.CallAsync(
            controller.Replication.RemoveReplicationRuleAsync(new RemoveReplicationRuleRequest { Peer = peer }, cancellationToken: cancellationToken),
            cancellationToken, NextSteps.ListReplicationRules);
        report.Write(new { Removed = peer }, static (console, done) =>
        {
            console.Write(TextLayout.Cell($"Nothing more is pulled from '{done.Removed}' by itself. What came from it stays until its retention ends."));
            console.WriteLine();
        });
        return ExitCode.Succeeded;
    }
}
