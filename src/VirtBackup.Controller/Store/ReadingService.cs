using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using Google.Protobuf;
using VirtBackup.Catalog;
using VirtBackup.Controller.Control;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Repository;
using VirtBackup.Repository.Reading;
using VirtBackup.Sealing;

namespace VirtBackup.Controller.Store;

/// <summary>Hands committed recovery points back to the agents whose jobs need them. Safe for concurrent use.</summary>
internal sealed class ReadingService(
    BackupRepository repository, IObjectStore store, Keyholder keyholder, CatalogDatabase catalog, JobService jobs, IEntropy entropy, TimeProvider time)
{
    /// <summary>An agent drops the keys of a grant after this time and asks again.</summary>
    public static readonly TimeSpan GrantLifetime = TimeSpan.FromHours(24);

    private const int NodeIdsMax = 1024;
    private const int SigningKeyBytesMax = 1 << 10;

    /// <summary>A point that nobody reads is let go after this time: its agent may be gone.</summary>
    public static readonly TimeSpan IdleMax = TimeSpan.FromMinutes(15);

    private static readonly TimeSpan SweepInterval = TimeSpan.FromMinutes(1);

    private readonly ConcurrentDictionary<(Id16 Job, Id16 Point), OpenPoint> _open = new();

    /// <summary>The manifest, and the keys to read it, sealed to the caller's one-time key: for restores of exactly this point.</summary>
    public async ValueTask<ReadManifestResponse> ReadManifestAsync(Caller caller, ReadManifestRequest request, CancellationToken cancellationToken)
    {
        var job = jobs.RequireAttempt(caller, WireText.ToId(request.JobId, "job id"), request.Attempt);
        var point = WireText.ToId(request.PointId, "id of the recovery point");
        RequireRestore(job, point);
        var agent = await catalog.Agents.FindAsync(caller.Name, cancellationToken)
            ?? throw new FaultException(FaultReason.Denied, $"The agent '{caller.Name}' is not enrolled.");
        var asked = GrantRequest.Verify(request.GrantRequest.Span, agent.SigningKey);
        var opened = await OpenAsync(job, point, cancellationToken);
        var manifest = opened.Nodes.Manifest;
        if (asked.Point != point || asked.Vm != manifest.Head.Vm)
        {
            throw new FaultException(FaultReason.Denied, "The request for keys is for another recovery point than the call.");
        }
        var signer = await store.ReadAllAsync(ObjectKeys.Agent(manifest.Head.AgentKeyId), SigningKeyBytesMax, cancellationToken);
        return new ReadManifestResponse
        {
            Manifest = UnsafeByteOperations.UnsafeWrap(manifest.Bytes),
            Grant = UnsafeByteOperations.UnsafeWrap(await SealGrantAsync(asked, manifest.Head, cancellationToken)),
            AgentPublicKey = UnsafeByteOperations.UnsafeWrap(signer),
        };
    }

    /// <summary>
    /// Map nodes of the point of a restore, or of another point of the machine that is backed up or restored: nodes tell which
    /// parts of two points are equal, and open nothing.
    /// </summary>
    public async IAsyncEnumerable<PooledSlice> ReadNodesAsync(Caller caller, ReadMapNodesRequest request, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        if (request.Ids.Length == 0 || request.Ids.Length % Id32.Size != 0 || request.Ids.Length / Id32.Size > NodeIdsMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A call asks for 1 to {NodeIdsMax} map nodes of {Id32.Size} bytes each.");
        }
        var ids = new Id32[request.Ids.Length / Id32.Size];
        for (var i = 0; i < ids.Length; i++)
        {
            ids[i] = Id32.Read(request.Ids.Span[(i * Id32.Size)..]);
        }
        var job = jobs.RequireAttempt(caller, WireText.ToId(request.JobId, "job id"), request.Attempt);
        var point = WireText.ToId(request.PointId, "id of the recovery point");
        if (job.Kind == JobKind.Backup || (job.Kind == JobKind.Restore && point != job.PointId))
        {
            await RequireSameMachineAsync(job, point, cancellationToken);
        }
        else
        {
            RequireRestore(job, point);
        }
        var opened = await OpenAsync(job, point, cancellationToken);
        await foreach (var slice in opened.ReadNodesAsync(ids, cancellationToken))
        {
            yield return slice;
        }
    }

    /// <summary>Data records of the point of a restore.</summary>
    public async IAsyncEnumerable<PooledSlice> ReadRecordsAsync(Caller caller, ReadRecordsRequest request, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        if (request.Ranges.Count is 0 or > RecoveryPointReader.RangesMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A call asks for 1 to {RecoveryPointReader.RangesMax} ranges.");
        }
        if (request.Ranges.Any(static range => range.Offset > long.MaxValue || range.Length > (ulong)RecoveryPointReader.RangeBytesMax))
        {
            throw new FaultException(FaultReason.InvalidArgument, "A range lies outside of every disk.");
        }
        var job = jobs.RequireAttempt(caller, WireText.ToId(request.JobId, "job id"), request.Attempt);
        var point = WireText.ToId(request.PointId, "id of the recovery point");
        RequireRestore(job, point);
        var opened = await OpenAsync(job, point, cancellationToken);
        var ranges = request.Ranges.Select(static range => new Core.ByteRange((long)range.Offset, (long)range.Length)).ToList();
        await foreach (var slice in opened.ReadRecordsAsync(WireText.ToId(request.StreamId, "stream id"), ranges, cancellationToken))
        {
            yield return slice;
        }
    }

    /// <summary>Lets go of what a job reads.</summary>
    public void EndJob(Id16 jobId)
    {
        foreach (var key in _open.Keys.Where(key => key.Job == jobId))
        {
            Close(key);
        }
    }

    /// <summary>Lets go of what nobody reads any more, until cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        await Task.Yield();
        while (true)
        {
            await Task.Delay(SweepInterval, time, cancellationToken);
            CloseIdle();
        }
    }

    private void CloseIdle()
    {
        foreach (var (key, candidate) in _open)
        {
            if (candidate.Idle > IdleMax)
            {
                Close(key);
            }
        }
    }

    private void Close((Id16 Job, Id16 Point) key)
    {
        if (_open.TryRemove(key, out var closed))
        {
            closed.Dispose();
        }
    }

    private async ValueTask<OpenPoint> OpenAsync(JobRow job, Id16 point, CancellationToken cancellationToken)
    {
        if (_open.TryGetValue((job.JobId, point), out var known))
        {
            return known;
        }
        var hold = repository.HoldPoint(point);
        try
        {
            var opened = new OpenPoint(await repository.OpenPointAsync(point, cancellationToken), hold, time);
            var first = _open.GetOrAdd((job.JobId, point), opened);
            if (first != opened)
            {
                opened.Dispose();
            }
            return first;
        }
        catch
        {
            hold.Dispose();
            throw;
        }
    }

    private async ValueTask<byte[]> SealGrantAsync(GrantRequest request, ManifestHead head, CancellationToken cancellationToken)
    {
        // First: without the keys of the point's origin this says so.
        using var idKey = keyholder.DeriveIdKey(head.Repository, head.Scope, head.IdGeneration);
        using var keys = new OpenedKeys(keyholder);
        var vmKeys = new List<VmKey>(head.Epochs.Count);
        foreach (var epoch in head.Epochs)
        {
            vmKeys.Add(await keys.GetAsync(head.Vm, epoch, cancellationToken));
        }
        return RestoreGrant.Seal(request, vmKeys, [idKey], (time.GetUtcNow() + GrantLifetime).ToUnixTimeMilliseconds(), entropy);
    }

    private async ValueTask RequireSameMachineAsync(JobRow job, Id16 point, CancellationToken cancellationToken)
    {
        if (await repository.FindPointAsync(point, cancellationToken) is not { } info || info.Vm != job.VmId)
        {
            throw new FaultException(FaultReason.Denied, $"The recovery point {point} is not one of the virtual machine that job {job.JobId} is about.");
        }
    }

    private static void RequireRestore(JobRow job, Id16 point)
    {
        if (job.Kind is not (JobKind.Restore or JobKind.RestoreCheck) || job.PointId != point)
        {
            throw new FaultException(FaultReason.Denied, $"The job {job.JobId} does not restore recovery point {point}.");
        }
    }
}
