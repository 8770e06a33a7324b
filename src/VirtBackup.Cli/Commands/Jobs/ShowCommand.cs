using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Following;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Jobs;

/// <summary>Shows a job; <c>backup show</c> is the same for backups.</summary>
internal sealed class ShowCommand : RemoteCommand
{
    private readonly Argument<string> _job = ReferenceArguments.Job();
    private readonly Option<bool> _watch = new("--watch", "-w") { Description = "Stay until the job has ended" };

    public ShowCommand(CliContext context, string description)
        : base("show", description, context)
    {
        Add(_job);
        Add(_watch);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var found = await controller.CallAsync(
            controller.Admin.GetJobAsync(new GetJobRequest { JobId = parse.GetRequiredValue(_job) }, cancellationToken: cancellationToken),
            cancellationToken, NextSteps.ListJobs);
        if (parse.GetValue(_watch))
        {
            // A job that has ended already is no other outcome than one that ends while it is watched.
            return await new JobFollower(Context, controller, report).FollowAsync(found.Job, OnInterrupt.Detach);
        }
        report.Write(JobView.Of(found.Job), JobTables.WriteOne);
        return ExitCode.Succeeded;
    }
}
