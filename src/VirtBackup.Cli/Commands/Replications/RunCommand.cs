using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Views;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Replications;

internal sealed class RunCommand : JobCommand
{
    private readonly Argument<string> _peer = ReferenceArguments.Peer();

    private readonly Option<string[]> _machines = new("--vm")
    {
        Description = "Only this machine, by its name or id at the other site; may be given again [default: as the rule says, or all]", HelpName = "NAME",
    };

    private readonly Option<bool> _again = new("--again") { Description = "Also recovery points that expired or were forgotten here" };

    public RunCommand(CliContext context)
        : base("run", "Pull now what is missing here; what an earlier run brought does not come twice", context)
    {
        Add(_peer);
        Add(_machines);
        Add(_again);
    }

    protected override async Task<Job> StartAsync(ParseResult parse, ControllerConnection controller, CancellationToken cancellationToken)
    {
        var request = new StartReplicationRequest
        {
            RequestId = Id16.Create(Context.Entropy).ToString(), Peer = parse.GetRequiredValue(_peer), Vms = { parse.GetValue(_machines) ?? [] }, Again = parse.GetValue(_again),
        };
        return (await controller.CallAsync(
            controller.Replication.StartReplicationAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListPeers)).Job;
    }

    protected override int Judge(ResultView? result) => result?.Replication is { IsWhole: false } ? ExitCode.Partial : ExitCode.Succeeded;
}
