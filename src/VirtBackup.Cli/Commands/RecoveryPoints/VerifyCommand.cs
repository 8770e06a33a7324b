using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Following;
using VirtBackup.Cli.Output;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.RecoveryPoints;

internal sealed class VerifyCommand : RemoteCommand
{
    private readonly Argument<string> _point = ReferenceArguments.Point();
    private readonly Option<bool> _full = new("--full") { Description = "Also decrypt every chunk and compute its name anew, beside checksums and references" };
    private readonly FollowChoices _follow = new();

    public VerifyCommand(CliContext context)
        : base("verify", "Prove that a recovery point is whole", context)
    {
        Add(_point);
        Add(_full);
        _follow.AddTo(this);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new StartVerifyRequest { Point = parse.GetRequiredValue(_point), Full = parse.GetValue(_full) };
        var started = await controller.CallAsync(
            controller.Admin.StartVerifyAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListPoints);
        return await _follow.FollowAsync(
            parse, started.Job, new JobFollower(Context, controller, report), Repositories.VerifyCommand.Judge);
    }
}
