using System.Collections.Concurrent;
using System.Threading.Channels;
using Google.Protobuf;
using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Core;

namespace VirtBackup.Controller.Control;

/// <summary>Jobs of one kind that the controller runs itself. Safe for concurrent use.</summary>
/// <param name="work">What such a job does; its result. A fault is told to whoever asked, anything else is logged.</param>
/// <param name="name">Of one such job, for messages: "verification".</param>
/// <param name="atOnce">How many run at a time.</param>
internal sealed partial class OwnJobs(Func<JobRow, CancellationToken, ValueTask<IMessage>> work, string name, JobService jobs, ILogger logger, int atOnce = 1) : IDisposable
{
    private const int QueueMax = 64;

    private readonly Channel<JobRow> _queue = Channel.CreateBounded<JobRow>(QueueMax);
    private readonly ConcurrentDictionary<Id16, CancellationTokenSource> _cancellations = new();

    /// <summary>Queues a job that was stored before; nothing happens to one that is over, waits or runs.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: too many wait already.</exception>
    public async ValueTask StartAsync(JobRow job, CancellationToken cancellationToken)
    {
        var source = new CancellationTokenSource();
        if (!_cancellations.TryAdd(job.JobId, source))
        {
            source.Dispose();
            return;
        }
        var isQueued = false;
        try
        {
            // It may have ended since whoever asks has read it.
            if ((await jobs.GetAsync(job.JobId, cancellationToken)).IsFinal)
            {
                return;
            }
            isQueued = _queue.Writer.TryWrite(job);
        }
        finally
        {
            if (!isQueued)
            {
                _cancellations.TryRemove(job.JobId, out _);
                source.Dispose();
            }
        }
        if (!isQueued)
        {
            var message = $"{QueueMax} jobs of this kind ({name}) wait already: wait until some are over.";
            await jobs.FinishAsync(job.JobId, JobPhase.Failed, [], message, FaultReason.FailedPrecondition, cancellationToken);
            throw new FaultException(FaultReason.FailedPrecondition, message);
        }
    }

    /// <summary>Nothing happens to a job that is not one of these.</summary>
    public void Cancel(Id16 jobId)
    {
        if (_cancellations.TryGetValue(jobId, out var source))
        {
            source.Cancel();
        }
    }

    /// <summary>Works on the queue until cancelled.</summary>
    public Task RunAsync(CancellationToken cancellationToken) => Task.WhenAll(Enumerable.Range(0, atOnce).Select(_ => WorkAsync(cancellationToken)));

    public void Dispose()
    {
        foreach (var source in _cancellations.Values)
        {
            source.Dispose();
        }
    }

    private async Task WorkAsync(CancellationToken cancellationToken)
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

    private async ValueTask RunAsync(JobRow job, CancellationToken cancellationToken, CancellationToken stopping)
    {
        try
        {
            cancellationToken.ThrowIfCancellationRequested();
            var result = await work(job, cancellationToken);
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
            LogFailed(failure, name, job.JobId);
            await jobs.FinishAsync(job.JobId, JobPhase.Failed, [], $"The {name} failed unexpectedly: see the controller's log.", FaultReason.Unspecified, stopping);
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "The {Name} job {JobId} failed.")]
    private partial void LogFailed(Exception failure, string name, Id16 jobId);
}
