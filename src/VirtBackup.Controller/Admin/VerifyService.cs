using System.Collections.Concurrent;
using System.Threading.Channels;
using Google.Protobuf;
using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Controller.Control;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Repository;
using VirtBackup.Repository.Verification;
using VirtBackup.Sealing;
using Damage = VirtBackup.Protocol.Admin.V1.Damage;
using Progress = VirtBackup.Protocol.Common.V1.Progress;

namespace VirtBackup.Controller.Admin;

/// <summary>Runs verification jobs in the controller, one after the other. Safe for concurrent use.</summary>
public sealed partial class VerifyService(
    BackupRepository repository, IObjectStore store, Keyholder keyholder, CatalogDatabase catalog, JobService jobs, TimeProvider time, ILogger<VerifyService> logger)
    : IDisposable
{
    private const int QueueMax = 64;

    private static readonly TimeSpan ProgressInterval = TimeSpan.FromSeconds(1);

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
            var message = $"{QueueMax} verifications wait already: wait until some are over.";
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
    public async Task RunAsync(CancellationToken cancellationToken)
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
            var result = await VerifyAsync(job, cancellationToken);
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
            LogFailed(failure, job.JobId);
            await jobs.FinishAsync(job.JobId, JobPhase.Failed, [], "The verification failed unexpectedly: see the controller's log.", FaultReason.Unspecified, stopping);
        }
    }

    private async ValueTask<VerifyResult> VerifyAsync(JobRow job, CancellationToken cancellationToken)
    {
        await jobs.ProgressAsync(job.JobId, new Progress { Phase = "verifying" }.ToByteArray(), cancellationToken);
        var full = StartVerifyRequest.Parser.ParseFrom(job.Options).Full;
        using var opener = full ? new EscrowedChunkOpener(keyholder, repository.Head) : null;
        var latest = new LatestProgress();
        using var reporting = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var reporter = ReportAsync(job.JobId, latest, reporting.Token);
        // What is committed meanwhile may or may not have been looked at.
        var looked = job.PointId.IsEmpty
            ? (await repository.ListPointsAsync(null, cancellationToken)).Select(static info => info.Point).ToList()
            : [job.PointId];
        VerificationReport report;
        try
        {
            var options = new VerificationOptions
            {
                Point = job.PointId.IsEmpty ? null : job.PointId, Signatures = new KeptSignatures(store), Opener = opener, Progress = latest,
            };
            report = await repository.VerifyAsync(options, cancellationToken);
        }
        finally
        {
            await reporting.CancelAsync();
            await reporter;
        }
        await NoteAsync(job, looked, report, cancellationToken);
        return await ToResultAsync(report, cancellationToken);
    }

    /// <summary>
    /// Notes which points are sound: retention keeps the last one. A damage that names no point could be any point's, so
    /// then only what is named is noted, as damaged.
    /// </summary>
    private ValueTask NoteAsync(JobRow job, List<Id16> looked, VerificationReport report, CancellationToken cancellationToken)
    {
        var damaged = report.Damages.SelectMany(static damage => damage.Affected).Select(static range => range.Point).ToHashSet();
        var found = report.IsSound ? looked.ConvertAll(static point => (point, true))
            : !job.PointId.IsEmpty ? looked.ConvertAll(static point => (point, false))
            : looked.FindAll(damaged.Contains).ConvertAll(static point => (point, false));
        return catalog.Checks.SaveAsync(found, time.NowMs(), cancellationToken);
    }

    private async Task ReportAsync(Id16 jobId, LatestProgress latest, CancellationToken cancellationToken)
    {
        await Task.Yield();
        try
        {
            while (true)
            {
                await Task.Delay(ProgressInterval, time, cancellationToken);
                var now = latest.Value;
                var progress = new Progress
                {
                    Phase = now.Points == 0 ? "verifying packs" : "verifying recovery points", BytesTotal = (ulong)now.BytesTotal, BytesDone = (ulong)now.Bytes, ChunksKnown = (ulong)now.Chunks,
                };
                await jobs.ProgressAsync(jobId, progress.ToByteArray(), cancellationToken);
            }
        }
        catch (OperationCanceledException)
        {
            // The verification is over.
        }
    }

    private async ValueTask<VerifyResult> ToResultAsync(VerificationReport report, CancellationToken cancellationToken)
    {
        var result = new VerifyResult
        {
            Objects = (ulong)(report.Packs + report.Points),
            Bytes = (ulong)report.Bytes,
            Records = (ulong)report.ChunksOpened,
            DamagesTotal = (ulong)report.DamageCount,
        };
        var names = new Dictionary<Id16, PointRow?>();
        foreach (var damage in report.Damages)
        {
            var message = new Damage { Object = damage.ObjectKey, Problem = damage.Problem };
            foreach (var range in damage.Affected)
            {
                if (!names.TryGetValue(range.Point, out var point))
                {
                    names.Add(range.Point, point = await catalog.Points.FindAsync(range.Point, cancellationToken));
                }
                message.Ranges.Add(new DamagedRange
                {
                    PointId = range.Point.ToString(),
                    VmName = point?.VmName ?? "",
                    StreamName = point?.Streams.FirstOrDefault(stream => stream.StreamId == range.Stream.ToString())?.Name ?? range.Stream.ToString(),
                    Offset = (ulong)range.Range.Offset,
                    Length = (ulong)range.Range.Length,
                });
            }
            result.Damages.Add(message);
        }
        return result;
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "Verification job {JobId} failed.")]
    private partial void LogFailed(Exception failure, Id16 jobId);

    private sealed class LatestProgress : IProgress<VerificationProgress>
    {
        private readonly Lock _lock = new();
        private VerificationProgress _value;

        public VerificationProgress Value
        {
            get
            {
                lock (_lock)
                {
                    return _value;
                }
            }
        }

        public void Report(VerificationProgress value)
        {
            lock (_lock)
            {
                _value = value;
            }
        }
    }
}
