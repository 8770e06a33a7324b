using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Following;
using VirtBackup.Cli.Output;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Backups;

internal sealed class PlanCommand : RemoteCommand
{
    private readonly Argument<string> _machine = ReferenceArguments.Machine();
    private readonly BackupChoices _choices = new();
    private readonly FollowChoices _follow = new();

    public PlanCommand(CliContext context)
        : base("plan", "Predict what a backup would read and need, without touching the machine", context)
    {
        Add(_machine);
        _choices.AddTo(this);
        _follow.AddTo(this);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new StartBackupPlanRequest { Vm = parse.GetRequiredValue(_machine), Options = _choices.Read(parse) };
        var started = await controller.CallAsync(
            controller.Admin.StartBackupPlanAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListMachines);
        return await _follow.FollowAsync(parse, started.Job, new JobFollower(Context, controller, report));
    }
}
