using Microsoft.Extensions.Logging;
using VirtBackup.Catalog.Copies;
using VirtBackup.Controller.Replication;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Keys;
using VirtBackup.Format.Manifests;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Repository.Points;
using VirtBackup.Repository.Replication;
using VirtBackup.Sealing;

namespace VirtBackup.Controller.Copies;

/// <summary>
/// Brings a copy store up to what is wanted there: points come, the oldest first, are locked, and go. A point that cannot be
/// copied does not keep others. It may be stopped anywhere, and the next run goes on. Use an instance once.
/// </summary>
internal sealed partial class CopyRun(CopyParts parts, OpenCopy copy, Func<string, ValueTask> note, ILogger logger)
{
    private const int ProblemsMax = 100;
    private const string RepositoryName = "the repository";

    private readonly CopyResult _result = new() { Store = copy.Row.Name };
    private long _bytesTotal;
    private long _bytesDone;

    /// <summary>Told how far the run is.</summary>
    public IProgress<CopyProgress>? Progress { get; init; }

    /// <exception cref="FaultException">One of the two stores failed; <see cref="FaultReason.Fenced"/>: somebody else took the copy store.</exception>
    public async ValueTask<CopyResult> RunAsync(CancellationToken cancellationToken)
    {
        await CopyKeyringAsync(cancellationToken);
        var plan = await new CopyComparison(parts).RunAsync(copy, cancellationToken);
        _bytesTotal = plan.Missing.Sum(static point => point.StreamBytes);
        var replicas = await parts.Catalog.Copies.ListReplicasAsync(cancellationToken);
        var pace = new RateLimit(new ReplicationRule { BytesPerSecondMax = (ulong)copy.Row.BytesPerSecondMax }, parts.Time);
        using (var source = new LocalReplicaSource(parts.Repository, RepositoryName, pace))
        {
            foreach (var point in plan.Missing)
            {
                await CopyAsync(source, plan, point, replicas.Contains(point.Point), cancellationToken);
            }
        }
        foreach (var (row, untilMs) in plan.Locks)
        {
            await LockAsync(row, untilMs, cancellationToken);
        }
        foreach (var row in plan.Expired)
        {
            await ForgetAsync(row, cancellationToken);
        }
        return _result;
    }

    /// <summary>Whoever sets a controller up over the copy needs what is opened with the recovery kit.</summary>
    private async ValueTask CopyKeyringAsync(CancellationToken cancellationToken)
    {
        await foreach (var info in parts.Store.ListAsync(ObjectKeys.KeyringPrefix, cancellationToken))
        {
            if (await copy.Store.FindAsync(info.Key, cancellationToken) is null)
            {
                // False: it came meanwhile.
                _ = await copy.Store.PutAsync(info.Key, await parts.Store.ReadAllAsync(info.Key, WrappedKey.BytesMax, cancellationToken), cancellationToken);
            }
        }
    }

    private async ValueTask CopyAsync(LocalReplicaSource source, CopyPlan plan, RecoveryPointInfo point, bool isReplica, CancellationToken cancellationToken)
    {
        var progress = new PointProgress(this, point.StreamBytes);
        try
        {
            if (plan.Recallable.Contains(point.Point))
            {
                await copy.Repository.RecallAsync(point.Vm, point.Point, cancellationToken);
            }
            var options = new ReplicaOptions { Verify = VerifyAsync, Progress = progress };
            var report = await copy.Repository.PullAsync(source, new ReplicaWish(point.Vm, point.Point, point.ManifestHash), options, cancellationToken);
            var row = new CopyPointRow(copy.Row.Name, point.Point, point.Vm, point.CreatedMs, Whole: true, await copy.Locks.FindAsync(point.Point, cancellationToken));
            await parts.Catalog.Copies.NotePointsAsync(copy.Row.Name, [row], [], cancellationToken);
            _result.PointsCopied++;
            _result.BytesCopied += (ulong)report.Done.ReceivedBytes;
            LogCopied(point.Point, copy.Row.Name, report.Done.ReceivedBytes);
            await note($"Recovery point {point.Point} is in '{copy.Row.Name}': {report.Done.ReceivedBytes} bytes copied.");
            if (plan.LockedUntil(copy.Row.Name, point.Point, point.Vm, isReplica, point.CreatedMs) is var untilMs && untilMs > Math.Max(row.LockedUntilMs, await NowAsync(cancellationToken)))
            {
                await LockAsync(row, untilMs, cancellationToken);
            }
        }
        catch (FaultException fault) when (ReplicationRun.IsOfThePoint(fault.Reason))
        {
            if (await parts.Repository.FindPointAsync(point.Point, cancellationToken) is null)
            {
                // It was forgotten meanwhile: the next comparison sees what became of it.
                await note($"Recovery point {point.Point} was not copied: {fault.Message}");
            }
            else
            {
                await RefuseAsync(point.Point, fault.Message);
            }
        }
        progress.End();
    }

    private async ValueTask LockAsync(CopyPointRow row, long untilMs, CancellationToken cancellationToken)
    {
        await copy.Locks.LengthenAsync(row.PointId, untilMs, cancellationToken);
        await parts.Catalog.Copies.NotePointsAsync(copy.Row.Name, [row with { LockedUntilMs = untilMs }], [], cancellationToken);
        _result.PointsLocked++;
    }

    private async ValueTask ForgetAsync(CopyPointRow row, CancellationToken cancellationToken)
    {
        try
        {
            // Looked at anew: it may have been brought back here.
            if (await parts.Repository.FindPointAsync(row.PointId, cancellationToken) is not null)
            {
                return;
            }
            await copy.Locks.RequireUnlockedAsync(row.PointId, await NowAsync(cancellationToken), cancellationToken);
            await copy.Repository.ForgetAsync(row.PointId, cancellationToken);
            await parts.Catalog.Copies.NotePointsAsync(copy.Row.Name, [], [row.PointId], cancellationToken);
            _result.PointsForgotten++;
            LogForgotten(row.PointId, copy.Row.Name);
            await note($"Recovery point {row.PointId} was forgotten in '{copy.Row.Name}', as in the repository before.");
        }
        catch (FaultException fault) when (fault.Reason is FaultReason.NotFound or FaultReason.RetentionLocked or FaultReason.AlreadyExists)
        {
            await RefuseAsync(row.PointId, fault.Message);
        }
    }

    private async ValueTask RefuseAsync(Id16 point, string message)
    {
        LogRefused(point, copy.Row.Name, message);
        _result.PointsRefused++;
        if (_result.Problems.Count < ProblemsMax)
        {
            _result.Problems.Add($"Recovery point {point}: {message}");
        }
        await note($"Recovery point {point}: {message}");
    }

    private async ValueTask<long> NowAsync(CancellationToken cancellationToken) => (await parts.Clock.ReadAsync(cancellationToken)).NowMs;

    private static ValueTask VerifyAsync(Manifest manifest, ReadOnlyMemory<byte> agentPublicKey, CancellationToken cancellationToken)
    {
        ManifestSealing.VerifySignature(manifest, agentPublicKey.Span);
        return ValueTask.CompletedTask;
    }

    private void Tell(long more, string phase) =>
        Progress?.Report(new CopyProgress(phase, _bytesTotal, Interlocked.Add(ref _bytesDone, more), (long)_result.BytesCopied));

    [LoggerMessage(Level = LogLevel.Information, Message = "Recovery point {Point} was copied to '{Store}': {Bytes} bytes.")]
    private partial void LogCopied(Id16 point, string store, long bytes);

    [LoggerMessage(Level = LogLevel.Information, Message = "Recovery point {Point} was forgotten in the copy store '{Store}', as in the repository before.")]
    private partial void LogForgotten(Id16 point, string store);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Recovery point {Point}, copy store '{Store}': {Reason}")]
    private partial void LogRefused(Id16 point, string store, string reason);

    /// <summary>Of one point: what is there of it already counts as done.</summary>
    private sealed class PointProgress(CopyRun run, long bytes) : IProgress<ReplicaProgress>
    {
        private long _told;

        public void Report(ReplicaProgress value)
        {
            var done = Math.Clamp(value.IsMapKnown ? bytes - (value.MissingBytes - value.FetchedBytes) : value.FetchedBytes, 0, bytes);
            Add(done, value.IsMapKnown ? "copying" : "comparing maps and copying");
        }

        public void End() => Add(bytes, "copying");

        private void Add(long done, string phase)
        {
            var before = Interlocked.Read(ref _told);
            if (done > before && Interlocked.CompareExchange(ref _told, done, before) == before)
            {
                run.Tell(done - before, phase);
            }
        }
    }
}

/// <summary>How far a run is. Bytes of disks; copied ones as they were read.</summary>
internal readonly record struct CopyProgress(string Phase, long BytesTotal, long BytesDone, long BytesCopied);
