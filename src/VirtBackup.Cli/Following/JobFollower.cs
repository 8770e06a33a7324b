using Spectre.Console;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Cli.Following;

/// <summary>What becomes of a job when its watcher is interrupted.</summary>
internal enum OnInterrupt
{
    /// <summary>The job goes on without a watcher.</summary>
    Detach,
    Cancel,
}

/// <summary>Watches a job to its end, shows it, and reports what it came to.</summary>
internal sealed class JobFollower(CliContext context, ControllerConnection controller, Report report)
{
    /// <summary>How long a lost connection is tried again: the job goes on meanwhile.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    private static readonly TimeSpan RetryDelay = TimeSpan.FromSeconds(2);

    /// <param name="complete">Adds to the outcome what the job itself does not know.</param>
    /// <returns>The exit code: <paramref name="judge"/>'s for a job that succeeded.</returns>
    public async Task<int> FollowAsync(Job started, OnInterrupt onInterrupt, Func<ResultView?, int>? judge = null, Func<JobView, Task<JobView>>? complete = null)
    {
        Job job;
        var interrupted = false;
        try
        {
            job = await ShowAsync(started, context.Interrupts.First);
        }
        catch (OperationCanceledException) when (context.Interrupts.First.IsCancellationRequested)
        {
            if (onInterrupt == OnInterrupt.Detach)
            {
                return Detach(started);
            }
            try
            {
                interrupted = true;
                report.Note($"Cancelling job {Units.ShortId(started.JobId)}; press Ctrl-C again to stop watching.");
                var cancelled = await controller.CallAsync(
                    controller.Admin.CancelJobAsync(new CancelJobRequest { JobId = started.JobId }, cancellationToken: context.Interrupts.Second),
                    context.Interrupts.Second);
                job = await ShowAsync(cancelled.Job, context.Interrupts.Second);
            }
            catch (OperationCanceledException) when (context.Interrupts.Second.IsCancellationRequested)
            {
                return Detach(started);
            }
        }
        var view = JobView.Of(job);
        return Finish(job, complete is null ? view : await complete(view), judge, interrupted ? ExitCode.Interrupted : ExitCode.Failed);
    }

    /// <summary>Prints a job that goes on by itself.</summary>
    public void WriteDetached(Job job) => report.Write(JobView.Of(job), static (console, view) =>
    {
        JobTables.WriteOne(console, view);
        console.WriteLine();
        console.WriteLine($"Watch it: virtbackup job show {Units.ShortId(view.JobId)} --watch");
    });

    private int Detach(Job job)
    {
        if (report.IsJson)
        {
            throw new CommandFault(ExitCode.Interrupted, $"Stopped watching; job {job.JobId} goes on.", $"virtbackup job show {job.JobId}");
        }
        report.Note($"Stopped watching; job {Units.ShortId(job.JobId)} goes on. See: virtbackup job show {Units.ShortId(job.JobId)}");
        return ExitCode.Interrupted;
    }

    private int Finish(Job job, JobView view, Func<ResultView?, int>? judge, int whenCancelled)
    {
        if (job.State == JobState.Succeeded)
        {
            report.Write(view, static (console, done) =>
            {
                console.Write(new Spectre.Console.Text($"{SubjectOf(done)} succeeded\n", TextLayout.Good));
                if (done.Result is { } result)
                {
                    ResultTables.Write(console, done, result);
                }
            });
            return judge?.Invoke(view.Result) ?? ExitCode.Succeeded;
        }
        report.Write(view, static (console, ended) =>
        {
            if (ended.Result is { } result)
            {
                ResultTables.Write(console, ended, result);
                console.WriteLine();
            }
        });
        var log = $"virtbackup job log {Units.ShortId(job.JobId)}";
        throw job.State == JobState.Cancelled
            ? new CommandFault(whenCancelled, $"Job {Units.ShortId(job.JobId)} ({job.Kind} of {job.VmName}) was cancelled.", log)
            : new CommandFault(
                job.FailureReason == ErrorReason.Corrupt ? ExitCode.Damaged : view.Result?.Recovery?.FailureCode() ?? ExitCode.Failed,
                job.FailureMessage.Length > 0 ? job.FailureMessage : $"Job {Units.ShortId(job.JobId)} failed without saying why.", log);
    }

    private Task<Job> ShowAsync(Job started, CancellationToken cancellationToken) =>
        IsFinal(started) ? Task.FromResult(started) : ChooseDisplay().RunAsync(show => WatchAsync(started, show, cancellationToken));

    private IJobDisplay ChooseDisplay() => report switch
    {
        { Terminal.ErrorIsTerminal: true } => new LiveDisplay(context.Terminal.Error, context.Time),
        { IsJson: true } => new SilentDisplay(),
        _ => new LineDisplay(context.Terminal.ErrorWriter, context.Time),
    };

    /// <summary>Follows the job's news to its final state, across lost connections.</summary>
    private async Task<Job> WatchAsync(Job job, Action<Job> show, CancellationToken cancellationToken)
    {
        show(job);
        var heard = context.Time.GetTimestamp();
        while (true)
        {
            try
            {
                var request = new WatchJobRequest { JobId = job.JobId };
                await foreach (var news in controller.StreamAsync(controller.Admin.WatchJob(request, cancellationToken: cancellationToken), cancellationToken))
                {
                    job = news.Job;
                    heard = context.Time.GetTimestamp();
                    show(job);
                    if (IsFinal(job))
                    {
                        return job;
                    }
                }
            }
            catch (CommandFault fault) when (fault.ExitCode == ExitCode.Unreachable && context.Time.GetElapsedTime(heard) < Patience)
            {
                // Tried again below.
            }
            if (context.Time.GetElapsedTime(heard) >= Patience)
            {
                throw new CommandFault(
                    ExitCode.Unreachable, $"The controller has not told about job {Units.ShortId(job.JobId)} for {Units.Duration(Patience)}; the job may still run.",
                    $"virtbackup job show {Units.ShortId(job.JobId)}");
            }
            await Task.Delay(RetryDelay, context.Time, cancellationToken);
        }
    }

    private static bool IsFinal(Job job) => job.State is JobState.Succeeded or JobState.Failed or JobState.Cancelled;

    private static string SubjectOf(JobView job) => job.Result?.Replication is { } replication
        ? TextLayout.Clean($"Replication from {replication.Peer}") : $"{Capitalised(job.Kind)} of {job.Vm ?? "the repository"}";

    private static string Capitalised(string kind) => kind.Length == 0 ? "Job" : char.ToUpperInvariant(kind[0]) + kind[1..].Replace('-', ' ');
}
