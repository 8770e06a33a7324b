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
public sealed class VerifyService : IDisposable
{
    private readonly BackupRepository _repository;
    private readonly IObjectStore _store;
    private readonly Keyholder _keyholder;
    private readonly CatalogDatabase _catalog;
    private readonly JobService _jobs;
    private readonly TimeProvider _time;
    private readonly OwnJobs _queue;

    public VerifyService(
        BackupRepository repository, IObjectStore store, Keyholder keyholder, CatalogDatabase catalog, JobService jobs, TimeProvider time, ILogger<VerifyService> logger)
    {
        (_repository, _store, _keyholder, _catalog, _jobs, _time) = (repository, store, keyholder, catalog, jobs, time);
        _queue = new OwnJobs(async (job, cancellationToken) => await VerifyAsync(job, cancellationToken), "verification", jobs, logger);
    }

    /// <inheritdoc cref="OwnJobs.StartAsync"/>
    public ValueTask StartAsync(JobRow job, CancellationToken cancellationToken) => _queue.StartAsync(job, cancellationToken);

    public void Cancel(Id16 jobId) => _queue.Cancel(jobId);

    /// <summary>Works on the queue until cancelled.</summary>
    public Task RunAsync(CancellationToken cancellationToken) => _queue.RunAsync(cancellationToken);

    public void Dispose() => _queue.Dispose();

    private async ValueTask<VerifyResult> VerifyAsync(JobRow job, CancellationToken cancellationToken)
    {
        await _jobs.ProgressAsync(job.JobId, new Progress { Phase = "verifying" }.ToByteArray(), cancellationToken);
        var full = StartVerifyRequest.Parser.ParseFrom(job.Options).Full;
        using var opener = full ? new EscrowedChunkOpener(_keyholder, _repository.Head) : null;
        var progress = new JobProgress<VerificationProgress>(_jobs, job.JobId, _time, static now => new Progress
        {
            Phase = now.Points == 0 ? "verifying packs" : "verifying recovery points", BytesTotal = (ulong)now.BytesTotal, BytesDone = (ulong)now.Bytes, ChunksKnown = (ulong)now.Chunks,
        });
        // What is committed meanwhile may or may not have been looked at.
        var looked = job.PointId.IsEmpty
            ? (await _repository.ListPointsAsync(null, cancellationToken)).Select(static info => info.Point).ToList()
            : [job.PointId];
        var options = new VerificationOptions
        {
            Point = job.PointId.IsEmpty ? null : job.PointId, Signatures = new KeptSignatures(_store), Opener = opener, Progress = progress,
        };
        var report = await progress.DuringAsync(() => _repository.VerifyAsync(options, cancellationToken), cancellationToken);
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
        return _catalog.Checks.SaveAsync(found, _time.NowMs(), cancellationToken);
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
                    names.Add(range.Point, point = await _catalog.Points.FindAsync(range.Point, cancellationToken));
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
}
