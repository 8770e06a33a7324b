using Spectre.Console;
using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Jobs;

internal sealed class CancelCommand : RemoteCommand
{
    private readonly Argument<string> _job = ReferenceArguments.Job();

    public CancelCommand(CliContext context)
        : base("cancel", "Cancel a job; it leaves nothing behind", context) => Add(_job);

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var response = await controller.CallAsync(
            controller.Admin.CancelJobAsync(new CancelJobRequest { JobId = parse.GetRequiredValue(_job) }, cancellationToken: cancellationToken),
            cancellationToken, NextSteps.ListJobs);
        report.Write(JobView.Of(response.Job), static (console, job) =>
        {
            console.Write(TextLayout.Cell(job.EndTime is null ? $"Job {job.JobId} is being cancelled." : $"Job {job.JobId} has ended: {job.State}."));
            console.WriteLine();
        });
        return ExitCode.Succeeded;
    }
}
