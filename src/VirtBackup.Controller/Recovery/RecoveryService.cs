using System.Collections.Concurrent;
using System.Threading.Channels;
using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Controller.Control;
using VirtBackup.Core;

namespace VirtBackup.Controller.Recovery;

/// <summary>
/// Recovery runs, side by side. What each machine came to is durable before anybody hears of it, and the restores are the
/// agents': a controller that was restarted takes its runs up where they are. Safe for concurrent use.
/// </summary>
internal sealed partial class RecoveryService(CatalogDatabase catalog, JobService jobs, AgentErrands errands, IEntropy entropy, TimeProvider time, ILogger<RecoveryService> logger) : IDisposable
{
    private static readonly TimeSpan RetryDelay = TimeSpan.FromSeconds(5);
    private readonly Channel<JobRow> _started = Channel.CreateBounded<JobRow>(1024);
    private readonly ConcurrentDictionary<Id16, (CancellationTokenSource Source, RecoveryPlan Plan)> _runs = new();

    /// <summary>Recovery points that runs are going to read.</summary>
    public IEnumerable<Id16> PointsInUse => _runs.Values.SelectMany(static run => run.Plan.Machines).Select(static machine => machine.PointId);

    /// <summary>Takes up what the last controller left. Before <see cref="RunAsync"/>, once.</summary>
    public async ValueTask LoadAsync(CancellationToken cancellationToken)
    {
        foreach (var job in (await catalog.Jobs.ListActiveAsync(cancellationToken)).Where(static job => job.Kind == JobKind.Recovery))
        {
            Start(job);
        }
    }

    /// <summary>Begins a run whose job was stored before; nothing happens when it goes on already.</summary>
    /// <returns>False: too many wait.</returns>
    public bool Start(JobRow job)
    {
        var source = new CancellationTokenSource();
        if (job.IsFinal || !_runs.TryAdd(job.JobId, (source, RecoveryPlan.Read(job.Options))))
        {
            source.Dispose();
            return true;
        }
        if (job.CancelRequested)
        {
            source.Cancel();
        }
        if (!_started.Writer.TryWrite(job))
        {
            _runs.TryRemove(job.JobId, out _);
            source.Dispose();
            return false;
        }
        return true;
    }

    /// <summary>Nothing happens to a job that is not one of these.</summary>
    public void Cancel(Id16 jobId)
    {
        if (_runs.TryGetValue(jobId, out var run))
        {
            run.Source.Cancel();
        }
    }

    /// <summary>Works on runs until cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        await Task.Yield();
        var going = new List<Task>();
        try
        {
            await foreach (var job in _started.Reader.ReadAllAsync(cancellationToken))
            {
                going.RemoveAll(static run => run.IsCompletedSuccessfully);
                going.Add(ExecuteAsync(job, cancellationToken));
            }
        }
        finally
        {
            await Task.WhenAll(going).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        }
    }

    public void Dispose()
    {
        foreach (var run in _runs.Values)
        {
            run.Source.Dispose();
        }
    }

    private async Task ExecuteAsync(JobRow job, CancellationToken stopping)
    {
        await Task.Yield();
        var (source, plan) = _runs[job.JobId];
        using var scope = CancellationTokenSource.CreateLinkedTokenSource(stopping, source.Token);
        var children = new RecoveryJobs(job.JobId, plan, jobs, errands, catalog.Jobs, entropy, time);
        try
        {
            // The restores are the agents' and go on meanwhile; a run that is taken up again finds them. What passes, such as a full storage
            // beneath the catalog, must not cost a site's recovery.
            await Insistence.RunAsync(() => AttemptAsync(job, plan, children, scope.Token, stopping), failure => LogFailed(failure, job.JobId), RetryDelay, time, stopping);
        }
        catch (OperationCanceledException) when (stopping.IsCancellationRequested)
        {
            return; // the next controller takes it up
        }
        if (_runs.TryRemove(job.JobId, out _))
        {
            source.Dispose();
        }
    }

    private async Task AttemptAsync(JobRow job, RecoveryPlan plan, RecoveryJobs children, CancellationToken cancellationToken, CancellationToken stopping)
    {
        var run = new RecoveryRun(job.JobId, plan, children, catalog.Recoveries, jobs, time);
        try
        {
            cancellationToken.ThrowIfCancellationRequested();
            await run.RunAsync(cancellationToken);
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested && !stopping.IsCancellationRequested)
        {
            await children.CancelAsync(stopping);
            await run.CancelAsync(stopping);
        }
        catch (FaultException fault) when (fault.Reason is not (FaultReason.DeviceFull or FaultReason.RepositoryBusy or FaultReason.Unavailable))
        {
            await children.CancelAsync(stopping);
            await jobs.FinishAsync(job.JobId, JobPhase.Failed, [], fault.Message, fault.Reason, stopping);
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "The recovery job {JobId} met a defect, and is taken up again.")]
    private partial void LogFailed(Exception failure, Id16 jobId);
}
