using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Following;
using VirtBackup.Cli.Output;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Restores;

internal sealed class RunCommand : RemoteCommand
{
    private readonly Argument<string> _point = ReferenceArguments.Point();
    private readonly RestoreChoices _choices = new();
    private readonly FollowChoices _follow = new();

    public RunCommand(CliContext context)
        : base("run", "Restore a virtual machine from a recovery point as a new machine, and watch it", context)
    {
        Add(_point);
        _choices.AddTo(this);
        _follow.AddTo(this);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new StartRestoreRequest
        {
            RequestId = Id16.Create(Context.Entropy).ToString(),
            Point = parse.GetRequiredValue(_point),
            Agent = _choices.ReadAgent(parse),
            Options = _choices.Read(parse),
        };
        var started = await controller.CallAsync(
            controller.Admin.StartRestoreAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListPoints);
        return await _follow.FollowAsync(parse, started.Job, new JobFollower(Context, controller, report));
    }
}
