using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Replications;

internal sealed class StatusCommand : RemoteCommand
{
    private readonly Argument<string> _peer = new("peer")
    {
        Description = "Name that the other controller has here [default: all]", Arity = ArgumentArity.ZeroOrOne, DefaultValueFactory = static _ => "",
    };

    public StatusCommand(CliContext context)
        : base("status", "Show how far the copies here are behind the other sites, for each machine", context) => Add(_peer);

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new GetReplicationStatusRequest { Peer = parse.GetValue(_peer) ?? "" };
        var response = await controller.CallAsync(
            controller.Replication.GetReplicationStatusAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListReplicationRules);
        report.Write(new { Rules = response.Rules.Select(ReplicationStatusView.Of).ToList() }, static (console, list) => ReplicationTables.WriteStatus(console, list.Rules));
        return ExitCode.Succeeded;
    }
}
