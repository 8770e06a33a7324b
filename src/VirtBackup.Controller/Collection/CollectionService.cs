using Google.Protobuf;
using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Controller.Control;
using VirtBackup.Controller.Store;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Repository;
using VirtBackup.Repository.Auditing;
using VirtBackup.Repository.Collection;

namespace VirtBackup.Controller.Collection;

/// <summary>Collects what no recovery point needs, every few hours, and as jobs when somebody asks. Safe for concurrent use.</summary>
public sealed partial class CollectionService : IDisposable
{
    /// <summary>Between two runs. What is freed passes several, a day apart, so that a night's deletions are gone two days later.</summary>
    public static readonly TimeSpan Interval = TimeSpan.FromHours(6);

    /// <summary>After a start: agents come back first and ask anew for what they build on.</summary>
    public static readonly TimeSpan FirstDelay = TimeSpan.FromMinutes(30);

    private readonly BackupRepository _repository;
    private readonly PointRecords _points;
    private readonly JobService _jobs;
    private readonly TrafficLog _traffic;
    private readonly ITrustedClock _clock;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly OwnJobs _queue;
    private volatile string? _problem;

    public CollectionService(BackupRepository repository, PointRecords points, JobService jobs, TrafficLog traffic, ITrustedClock clock, TimeProvider time, ILogger<CollectionService> logger)
    {
        (_repository, _points, _jobs, _traffic, _clock, _time, _logger) = (repository, points, jobs, traffic, clock, time, logger);
        _queue = new OwnJobs(RunAsync, "collection", jobs, logger);
    }

    /// <summary>Why the last run ended early; null: it came to its end, or there was none since the start.</summary>
    public string? Problem => _problem;

    /// <inheritdoc cref="OwnJobs.StartAsync"/>
    public ValueTask StartAsync(JobRow job, CancellationToken cancellationToken) => _queue.StartAsync(job, cancellationToken);

    public void Cancel(Id16 jobId) => _queue.Cancel(jobId);

    /// <summary>Works on the queue until cancelled.</summary>
    public Task RunJobsAsync(CancellationToken cancellationToken) => _queue.RunAsync(cancellationToken);

    /// <summary>Collects every few hours, until cancelled.</summary>
    public async Task RunRegularlyAsync(CancellationToken cancellationToken)
    {
        await Task.Yield();
        await Task.Delay(FirstDelay, _time, cancellationToken);
        while (true)
        {
            try
            {
                var report = await CollectAsync(null, new CollectionOptions { Time = _clock }, cancellationToken);
                if (report.PointsPurged + report.RecordsRemoved + report.PacksDeleted + report.Problems.Count > 0)
                {
                    LogDone(report.PointsPurged, report.RecordsRemoved, report.PacksDeleted, report.BytesFreed, report.Problems.Count);
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
        var request = StartCollectionRequest.Parser.ParseFrom(job.Options);
        AuditReport? audit = null;
        if (request.Audit)
        {
            await ReportAsync(job, "auditing the counts", cancellationToken);
            audit = await _repository.AuditAsync(cancellationToken);
        }
        var stages = new StageProgress();
        using var reporting = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var reporter = ReportAsync(job, stages, reporting.Token);
        try
        {
            var options = new CollectionOptions
            {
                Time = _clock, IsDryRun = request.DryRun, Progress = stages,
                BytesPerSecond = request.ReadBytesPerSecondMax == 0 ? null : (long)Math.Min(request.ReadBytesPerSecondMax, long.MaxValue),
            };
            return ToResult(await CollectAsync(job.JobId, options, cancellationToken), audit);
        }
        finally
        {
            await reporting.CancelAsync();
            await reporter;
        }
    }

    private async ValueTask<CollectionReport> CollectAsync(Id16? job, CollectionOptions options, CancellationToken cancellationToken)
    {
        var before = job is { } id ? _traffic.Begin(id) : _traffic.Now;
        CollectionReport report;
        try
        {
            report = await _repository.CollectAsync(options, cancellationToken);
            _problem = options.IsDryRun ? _problem : null;
        }
        catch (FaultException fault) when (fault.Reason != FaultReason.RepositoryBusy)
        {
            _problem = fault.Message;
            throw;
        }
        _traffic.Tell("what no recovery point needs was collected", before);
        foreach (var point in options.IsDryRun ? [] : report.PurgedPoints)
        {
            await _points.DeleteAsync(point, CancellationToken.None);
        }
        return report;
    }

    private ValueTask ReportAsync(JobRow job, string phase, CancellationToken cancellationToken) =>
        _jobs.ProgressAsync(job.JobId, new Progress { Phase = phase }.ToByteArray(), cancellationToken);

    private async Task ReportAsync(JobRow job, StageProgress stages, CancellationToken cancellationToken)
    {
        await Task.Yield();
        try
        {
            var told = CollectionStage.None;
            while (true)
            {
                if (stages.Stage is var stage && stage != told)
                {
                    await ReportAsync(job, PhaseOf(stage), cancellationToken);
                    told = stage;
                }
                await Task.Delay(TimeSpan.FromSeconds(1), _time, cancellationToken);
            }
        }
        catch (OperationCanceledException)
        {
            // The run is over.
        }
    }

    private static string PhaseOf(CollectionStage stage) => stage switch
    {
        CollectionStage.Plan => "comparing store and index",
        CollectionStage.Purge => "purging forgotten recovery points",
        CollectionStage.Audit => "auditing the counts",
        CollectionStage.Release => "releasing map nodes",
        CollectionStage.Condemn => "condemning",
        CollectionStage.Remove => "removing",
        CollectionStage.Repack => "repacking",
        CollectionStage.Trash => "marking packs",
        CollectionStage.Empty => "deleting packs",
        _ => "finishing",
    };

    private static CollectionResult ToResult(CollectionReport report, AuditReport? asked)
    {
        var result = new CollectionResult
        {
            Cycle = (ulong)report.Cycle,
            DryRun = report.IsDryRun,
            PointsPurged = (ulong)report.PointsPurged,
            PointsRecallable = (ulong)report.PointsKept,
            RecordsCondemned = (ulong)report.RecordsCondemned,
            RecordsRemoved = (ulong)report.RecordsRemoved,
            BytesRemoved = (ulong)report.BytesRemoved,
            PacksRepacked = (ulong)report.PacksRepacked,
            BytesRepacked = (ulong)report.BytesRepacked,
            PacksTrashed = (ulong)report.PacksTrashed,
            BytesTrashed = (ulong)report.BytesTrashed,
            PacksDeleted = (ulong)report.PacksDeleted,
            BytesFreed = (ulong)report.BytesFreed,
        };
        result.Problems.Add(report.Problems);
        if ((report.Audit ?? asked) is { } audit)
        {
            result.Audit = new AuditResult
            {
                Points = (ulong)audit.Points, Nodes = (ulong)audit.Nodes, References = (ulong)audit.References,
                CountedTooOften = (ulong)audit.CountedTooOften, Repaired = (ulong)audit.Repaired,
            };
        }
        return result;
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Collection: {Purged} recovery points purged, {Removed} records removed, {Deleted} packs deleted ({Freed} bytes), {Problems} problems.")]
    private partial void LogDone(long purged, long removed, long deleted, long freed, int problems);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Collection did not run: {Reason}")]
    private partial void LogNotNow(string reason);

    [LoggerMessage(Level = LogLevel.Error, Message = "Collection failed; it is tried again in some hours.")]
    private partial void LogBroken(Exception failure);

    private sealed class StageProgress : IProgress<CollectionProgress>
    {
        private volatile int _stage;

        public CollectionStage Stage => (CollectionStage)_stage;

        public void Report(CollectionProgress value) => _stage = (int)value.Stage;
    }
}
