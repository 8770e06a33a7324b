using Google.Protobuf;
using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Controller.Control;
using VirtBackup.Core;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Controller.Retention;

/// <summary>Runs retention every hour, and as jobs when somebody asks. Safe for concurrent use.</summary>
public sealed partial class RetentionService : IDisposable
{
    public static readonly TimeSpan Interval = TimeSpan.FromHours(1);

    /// <summary>After a start: agents come back first, and resume what they build on.</summary>
    public static readonly TimeSpan FirstDelay = TimeSpan.FromMinutes(10);

    private readonly RetentionRun _run;
    private readonly JobService _jobs;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly OwnJobs _queue;

    public RetentionService(RetentionRun run, JobService jobs, TimeProvider time, ILogger<RetentionService> logger)
    {
        (_run, _jobs, _time, _logger) = (run, jobs, time, logger);
        _queue = new OwnJobs(RunAsync, "retention", jobs, logger);
    }

    /// <inheritdoc cref="OwnJobs.StartAsync"/>
    public ValueTask StartAsync(JobRow job, CancellationToken cancellationToken) => _queue.StartAsync(job, cancellationToken);

    public void Cancel(Id16 jobId) => _queue.Cancel(jobId);

    /// <summary>Works on the queue until cancelled.</summary>
    public Task RunJobsAsync(CancellationToken cancellationToken) => _queue.RunAsync(cancellationToken);

    /// <summary>Forgets what has expired, every hour until cancelled.</summary>
    public async Task RunHourlyAsync(CancellationToken cancellationToken)
    {
        await Task.Yield();
        await Task.Delay(FirstDelay, _time, cancellationToken);
        while (true)
        {
            try
            {
                var result = await _run.RunAsync(null, static _ => ValueTask.CompletedTask, cancellationToken);
                if (result.ExpiredTotal + result.FailedTotal > 0)
                {
                    LogDone(result.ExpiredTotal, result.FailedTotal, result.PointsKept);
                }
            }
            catch (FaultException fault)
            {
                LogNotNow(fault.Message);
            }
            catch (Exception failure) when (failure is not OperationCanceledException)
            {
                LogBroken(failure);
            }
            await Task.Delay(Interval, _time, cancellationToken);
        }
    }

    public void Dispose() => _queue.Dispose();

    private async ValueTask<IMessage> RunAsync(JobRow job, CancellationToken cancellationToken)
    {
        await _jobs.ProgressAsync(job.JobId, new Progress { Phase = "expiring" }.ToByteArray(), cancellationToken);
        return await _run.RunAsync(job.VmId.IsEmpty ? null : job.VmId, line => _jobs.NoteAsync(job.JobId, line, CancellationToken.None), cancellationToken);
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Retention: {Expired} recovery points expired, {Failed} could not, {Kept} are kept.")]
    private partial void LogDone(ulong expired, ulong failed, ulong kept);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Retention did not run: {Reason}")]
    private partial void LogNotNow(string reason);

    [LoggerMessage(Level = LogLevel.Error, Message = "Retention failed; it is tried again in an hour.")]
    private partial void LogBroken(Exception failure);
}
