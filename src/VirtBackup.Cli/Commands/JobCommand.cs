using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Following;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands;

/// <summary>A verb that starts a job of the controller and watches it.</summary>
internal abstract class JobCommand : RemoteCommand
{
    private readonly FollowChoices _follow = new();

    protected JobCommand(string name, string description, CliContext context)
        : base(name, description, context) => _follow.AddTo(this);

    protected sealed override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var job = await StartAsync(parse, controller, cancellationToken);
        return await _follow.FollowAsync(parse, job, new JobFollower(Context, controller, report), Judge, outcome => CompleteAsync(outcome, controller, cancellationToken));
    }

    protected abstract Task<Job> StartAsync(ParseResult parse, ControllerConnection controller, CancellationToken cancellationToken);

    /// <summary>Adds to the outcome what the job itself does not know.</summary>
    protected virtual Task<JobView> CompleteAsync(JobView outcome, ControllerConnection controller, CancellationToken cancellationToken) => Task.FromResult(outcome);

    /// <summary>The exit code of a job that succeeded.</summary>
    protected virtual int Judge(ResultView? result) => ExitCode.Succeeded;
}
