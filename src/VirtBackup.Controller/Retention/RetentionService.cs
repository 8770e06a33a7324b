using System.Collections.Concurrent;
using System.Threading.Channels;
using Google.Protobuf;
using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Controller.Control;
using VirtBackup.Core;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Controller.Retention;

/// <summary>Runs retention every hour, and as jobs when somebody asks. Safe for concurrent use.</summary>
public sealed partial class RetentionService(RetentionRun run, JobService jobs, TimeProvider time, ILogger<RetentionService> logger) : IDisposable
{
    public static readonly TimeSpan Interval = TimeSpan.FromHours(1);

    /// <summary>After a start: agents come back first, and resume what they build on.</summary>
    public static readonly TimeSpan FirstDelay = TimeSpan.FromMinutes(10);

    private const int QueueMax = 64;

    private readonly Channel<JobRow> _queue = Channel.CreateBounded<JobRow>(QueueMax);
    private readonly ConcurrentDictionary<Id16, CancellationTokenSource> _cancellations = new();

    /// <summary>Queues a job that was stored before.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: too many wait already.</exception>
    public async ValueTask StartAsync(JobRow job, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(job);
        var source = new CancellationTokenSource();
        _cancellations[job.JobId] = source;
        if (!_queue.Writer.TryWrite(job))
        {
            _cancellations.TryRemove(job.JobId, out _);
            source.Dispose();
            var message = $"{QueueMax} retention jobs wait already: wait until some are over.";
            await jobs.FinishAsync(job.JobId, JobPhase.Failed, [], message, FaultReason.FailedPrecondition, cancellationToken);
            throw new FaultException(FaultReason.FailedPrecondition, message);
        }
    }

    public void Cancel(Id16 jobId)
    {
        if (_cancellations.TryGetValue(jobId, out var source))
        {
            source.Cancel();
        }
    }

    /// <summary>Works on the queue until cancelled.</summary>
    public async Task RunJobsAsync(CancellationToken cancellationToken)
    {
        await Task.Yield();
        await foreach (var job in _queue.Reader.ReadAllAsync(cancellationToken))
        {
            var source = _cancellations[job.JobId];
            using var scope = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, source.Token);
            await RunAsync(job, scope.Token, cancellationToken);
            _cancellations.TryRemove(job.JobId, out _);
            source.Dispose();
        }
    }

    /// <summary>Forgets what has expired, every hour until cancelled.</summary>
    public async Task RunHourlyAsync(CancellationToken cancellationToken)
    {
        await Task.Yield();
        await Task.Delay(FirstDelay, time, cancellationToken);
        while (true)
        {
            try
            {
                var result = await run.RunAsync(null, static _ => ValueTask.CompletedTask, cancellationToken);
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
            await Task.Delay(Interval, time, cancellationToken);
        }
    }

    public void Dispose()
    {
        foreach (var source in _cancellations.Values)
        {
            source.Dispose();
        }
    }

    private async ValueTask RunAsync(JobRow job, CancellationToken cancellationToken, CancellationToken stopping)
    {
        try
        {
            cancellationToken.ThrowIfCancellationRequested();
            await jobs.ProgressAsync(job.JobId, new Progress { Phase = "expiring" }.ToByteArray(), cancellationToken);
            var result = await run.RunAsync(job.VmId.IsEmpty ? null : job.VmId, line => jobs.NoteAsync(job.JobId, line, stopping), cancellationToken);
            await jobs.FinishAsync(job.JobId, JobPhase.Succeeded, result.ToByteArray(), "", FaultReason.Unspecified, stopping);
        }
        catch (OperationCanceledException) when (!stopping.IsCancellationRequested)
        {
            await jobs.FinishAsync(job.JobId, JobPhase.Cancelled, [], "", FaultReason.Unspecified, stopping);
        }
        catch (FaultException fault)
        {
            await jobs.FinishAsync(job.JobId, JobPhase.Failed, [], fault.Message, fault.Reason, stopping);
        }
        catch (Exception failure) when (failure is not OperationCanceledException)
        {
            LogBroken(failure);
            await jobs.FinishAsync(job.JobId, JobPhase.Failed, [], "Retention failed unexpectedly: see the controller's log.", FaultReason.Unspecified, stopping);
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Retention: {Expired} recovery points expired, {Failed} could not, {Kept} are kept.")]
    private partial void LogDone(ulong expired, ulong failed, ulong kept);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Retention did not run: {Reason}")]
    private partial void LogNotNow(string reason);

    [LoggerMessage(Level = LogLevel.Error, Message = "Retention failed; it is tried again in an hour.")]
    private partial void LogBroken(Exception failure);
}
