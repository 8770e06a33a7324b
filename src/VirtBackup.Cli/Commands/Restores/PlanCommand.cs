using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Following;
using VirtBackup.Cli.Output;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Restores;

internal sealed class PlanCommand : RemoteCommand
{
    private readonly Argument<string> _point = ReferenceArguments.Point();
    private readonly RestoreChoices _choices = new();
    private readonly FollowChoices _follow = new();

    public PlanCommand(CliContext context)
        : base("plan", "Compare a recovery point with a host; nothing is written", context)
    {
        Add(_point);
        _choices.AddTo(this);
        _follow.AddTo(this);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new StartRestoreCheckRequest { Point = parse.GetRequiredValue(_point), Agent = _choices.ReadAgent(parse), Options = _choices.Read(parse) };
        var started = await controller.CallAsync(
            controller.Admin.StartRestoreCheckAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListPoints);
        return await _follow.FollowAsync(
            parse, started.Job, new JobFollower(Context, controller, report), static result => result?.RestoreCheck is { Possible: false } ? ExitCode.Refused : ExitCode.Succeeded);
    }
}
