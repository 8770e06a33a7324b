using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Following;
using VirtBackup.Cli.Output;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.RecoveryPoints;

/// <summary><c>recovery-point verify POINT</c> and <c>repository verify</c>: the same job with and without a point.</summary>
internal sealed class VerifyCommand : RemoteCommand
{
    private readonly Argument<string>? _point;
    private readonly Option<bool> _full = new("--full") { Description = "Also decrypt every chunk and compute its name anew, beside checksums and references" };
    private readonly FollowChoices _follow = new();

    public VerifyCommand(CliContext context, bool onePoint)
        : base("verify", onePoint ? "Prove that a recovery point is whole" : "Prove that everything in the repository is whole", context)
    {
        if (onePoint)
        {
            Add(_point = ReferenceArguments.Point());
        }
        Add(_full);
        _follow.AddTo(this);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new StartVerifyRequest { Point = _point is null ? "" : parse.GetRequiredValue(_point), Full = parse.GetValue(_full) };
        var started = await controller.CallAsync(
            controller.Admin.StartVerifyAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListPoints);
        return await _follow.FollowAsync(
            parse, started.Job, new JobFollower(Context, controller, report), static result => result?.Verify is { DamagesTotal: > 0 } ? ExitCode.Damaged : ExitCode.Succeeded);
    }
}
