using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Following;
using VirtBackup.Cli.Output;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Backups;

internal sealed class RunCommand : RemoteCommand
{
    private readonly Argument<string> _machine = ReferenceArguments.Machine();
    private readonly BackupChoices _choices = new();
    private readonly FollowChoices _follow = new();

    public RunCommand(CliContext context)
        : base("run", "Back up a virtual machine now, and watch it; Ctrl-C stops watching and lets the job go on", context)
    {
        Add(_machine);
        _choices.AddTo(this);
        _follow.AddTo(this);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new StartBackupRequest
        {
            RequestId = Id16.Create(Context.Entropy).ToString(),
            Vm = parse.GetRequiredValue(_machine),
            Options = _choices.Read(parse),
        };
        var started = await controller.CallAsync(
            controller.Admin.StartBackupAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListMachines);
        return await _follow.FollowAsync(parse, started.Job, new JobFollower(Context, controller, report));
    }
}
