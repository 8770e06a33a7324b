using Google.Protobuf;
using VirtBackup.Controller.Store;
using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Records;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Repository.Reading;
using VirtBackup.Sealing;
using static VirtBackup.Controller.Tests.EnrollmentTests;
using RecordKind = VirtBackup.Protocol.Store.V1.RecordKind;

namespace VirtBackup.Controller.Tests;

public sealed class StoreTests
{
    /// <summary>More than one leaf, a run of zeros, and a short last chunk.</summary>
    internal static byte[] NewDisk()
    {
        var disk = new byte[(300 * 4096) + 777];
        new Random(7).NextBytes(disk);
        disk.AsSpan(5 * 4096, 40 * 4096).Clear();
        return disk;
    }

    [Fact]
    public async Task A_backup_is_uploaded_committed_listed_and_read_back()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var disk = NewDisk();
        var job = await BackUpAsync(agent, disk);
        var done = await world.GetJobAsync(job.JobId);
        Assert.Equal((JobState.Succeeded, "vda"), (done.State, (await GetPointAsync(world, $"{agent.VmName}@latest")).Streams[0].Name));
        Assert.Equal((ulong)disk.Length, done.Result.Backup.LogicalBytes);
        Assert.Equal(disk, await RestoreAsync(agent, job.PointId, disk.Length));
    }

    [Fact]
    public async Task Another_host_restores_and_goes_on_after_the_controller_was_restarted()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var other = await world.EnrollAsync("host-2");
        var disk = NewDisk();
        var job = await BackUpAsync(agent, disk);
        Assert.Equal(disk, await RestoreAsync(other, job.PointId, disk.Length, midway: () => world.RestartAsync()));
    }

    [Fact]
    public async Task A_lost_catalog_learns_the_points_from_the_repository()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var job = await BackUpAsync(agent, NewDisk());
        await world.RestartAsync(loseCatalog: true);
        var point = Assert.Single((await world.Role.Admin.ListRecoveryPointsAsync(new ListRecoveryPointsRequest(), World.Token)).RecoveryPoints);
        Assert.Equal((job.PointId, agent.VmName, 1UL), (point.PointId, point.VmName, point.Sequence));
    }

    [Fact]
    public async Task Points_are_forgotten_and_brought_back()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var job = await BackUpAsync(agent, NewDisk());
        var forgotten = await world.Role.Admin.ForgetRecoveryPointAsync(new ForgetRecoveryPointRequest { Point = job.PointId[..8] }, World.Token);
        Assert.True(forgotten.RecoveryPoint.Forgotten);
        Assert.Empty((await world.Role.Admin.ListRecoveryPointsAsync(new ListRecoveryPointsRequest(), World.Token)).RecoveryPoints);
        await RefusedAsync(FaultReason.FailedPrecondition, async () => await world.Role.Admin.StartRestoreAsync(new StartRestoreRequest { Point = job.PointId }, World.Token));
        await world.RestartAsync(loseCatalog: false);
        await world.Role.Admin.ForgetRecoveryPointAsync(new ForgetRecoveryPointRequest { Point = job.PointId, Undo = true }, World.Token);
        Assert.Single((await world.Role.Admin.ListRecoveryPointsAsync(new ListRecoveryPointsRequest(), World.Token)).RecoveryPoints);
    }

    [Fact]
    public async Task The_second_point_continues_the_lineage_and_probes_find_what_is_stored()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var first = await BackUpAsync(agent, NewDisk());
        var job = await world.StartBackupAsync(agent);
        var session = await BeginAsync(agent, job, basePoint: first.PointId);
        Assert.Equal((2UL, session.PreviousManifest), (session.Sequence, session.BaseManifest));
        var backup = new SealedBackup(agent, session, Id16.Parse(job.PointId), 1, NewDisk());
        var ids = ByteString.CopyFrom([.. backup.Chunks.SelectMany(chunk => RecordHeader.Parse(chunk).Id.ToArray()), .. new byte[31], 1]);
        var probed = await world.Role.Store.ProbeChunksAsync(agent.Caller, new ProbeChunksRequest { SessionId = session.SessionId, Kind = RecordKind.Data, Ids = ids }, World.Token);
        for (var i = 0; i <= backup.Chunks.Count; i++)
        {
            Assert.Equal(i < backup.Chunks.Count, (probed.PresentBitmap[i / 8] >> (i % 8) & 1) == 1);
        }
    }

    [Fact]
    public async Task A_base_keeps_to_its_lineage_although_the_machine_has_a_newer_one()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var disk = NewDisk();
        var old = await BackUpAsync(agent, disk);
        await world.Role.Admin.ForgetRecoveryPointAsync(new ForgetRecoveryPointRequest { Point = old.PointId }, World.Token);
        // All were forgotten, so a new lineage begins.
        await BackUpAsync(agent, disk);
        await BackUpAsync(agent, disk);
        await world.Role.Admin.ForgetRecoveryPointAsync(new ForgetRecoveryPointRequest { Point = old.PointId, Undo = true }, World.Token);
        var job = await BackUpAsync(agent, disk, basePoint: old.PointId);
        var points = (await world.Repository.ListPointsAsync(null, World.Token)).ToDictionary(static point => point.Point);
        var (first, last) = (points[Id16.Parse(old.PointId)], points[Id16.Parse(job.PointId)]);
        Assert.Equal((first.Lineage, 2L, first.ManifestHash, first.ManifestHash), (last.Lineage, last.Sequence, last.PreviousManifest, last.BaseManifest));
        Assert.Equal(2, points.Values.Select(static point => point.Lineage).Distinct().Count());
        Assert.Equal(disk, await RestoreAsync(agent, job.PointId, disk.Length));
    }

    [Fact]
    public async Task Sessions_are_idempotent_resumed_fenced_and_expire()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var job = await world.StartBackupAsync(agent);
        var session = await BeginAsync(agent, job, "r1");
        Assert.Equal(session.SessionId, (await BeginAsync(agent, job, "r1")).SessionId);
        var backup = new SealedBackup(agent, session, Id16.Parse(job.PointId), 1, NewDisk());
        byte[] data = [.. backup.Chunks.SelectMany(chunk => chunk)];
        var whole = backup.Chunks.Take(10).Sum(chunk => chunk.Length);
        Assert.Equal((ulong)whole, (await backup.SendAsync(0, RecordKind.Data, data[..whole])).DurableOffset);
        var resumed = await BeginAsync(agent, job, "r2", resume: session.SessionId);
        Assert.Equal((session.SessionId, (ulong)whole), (resumed.SessionId, resumed.Lanes[0].DurableOffset));
        // What is durable already may be sent again.
        Assert.Equal((ulong)data.Length, (await backup.SendAsync(0, RecordKind.Data, data)).DurableOffset);
        world.Time.Advance(SessionRegistry.Lease);
        await RefusedAsync(FaultReason.SessionExpired, () => BeginAsync(agent, job, "r3", resume: session.SessionId));
        var next = await BeginAsync(agent, job, "r4");
        Assert.NotEqual(session.SessionId, next.SessionId);
        await agent.ReportAsync(job.JobId, 1, JobState.Running);
        await using (await ControlStream.OpenAsync(agent, Id16.Create(SystemEntropy.Instance)))
        {
        }
        await RefusedAsync(FaultReason.SessionExpired, () => BeginAsync(agent, job, "r5", resume: next.SessionId, attempt: 2));
        await RefusedAsync(FaultReason.Fenced, () => BeginAsync(agent, job, "r6", attempt: 1));
        Assert.NotEmpty((await BeginAsync(agent, job, "r7", attempt: 2)).SessionId);
    }

    [Fact]
    public async Task A_session_is_its_agents_own()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var other = await world.EnrollAsync("host-2");
        var job = await world.StartBackupAsync(agent);
        await RefusedAsync(FaultReason.Denied, () => BeginAsync(other, job));
        var session = await BeginAsync(agent, job);
        await RefusedAsync(FaultReason.Denied, async () => await world.Role.Store.ProbeChunksAsync(
            other.Caller, new ProbeChunksRequest { SessionId = session.SessionId, Kind = RecordKind.Data }, World.Token));
        await RefusedAsync(FaultReason.Denied, async () => await world.Role.Store.FindRecoveryPointsAsync(
            other.Caller, new FindRecoveryPointsRequest { VmId = agent.VmId.ToString() }, World.Token));
        await world.Role.Admin.RevokeAgentAsync(new RevokeAgentRequest { Name = agent.Name }, World.Token);
        await RefusedAsync(FaultReason.SessionExpired, async () => await world.Role.Store.ProbeChunksAsync(
            agent.Caller, new ProbeChunksRequest { SessionId = session.SessionId, Kind = RecordKind.Data }, World.Token));
    }

    [Fact]
    public async Task Commits_that_could_not_be_restored_or_were_not_given_out_are_refused()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var job = await world.StartBackupAsync(agent);
        var session = await BeginAsync(agent, job);
        var point = Id16.Parse(job.PointId);
        var backup = new SealedBackup(agent, session, point, 1, NewDisk());
        await RefusedAsync(FaultReason.Incomplete, () => backup.CommitAsync());
        await backup.UploadAsync();
        await RefusedAsync(FaultReason.Corrupt, () => backup.CommitAsync(Flip(backup.Manifest())));
        using var stranger = System.Security.Cryptography.ECDsa.Create(System.Security.Cryptography.ECCurve.NamedCurves.nistP256);
        await RefusedAsync(FaultReason.Corrupt, () => backup.CommitAsync(backup.Manifest(signer: stranger)));
        await RefusedAsync(FaultReason.FailedPrecondition, () => backup.CommitAsync(backup.Manifest(backup.Head with { Sequence = 9 })));
        await RefusedAsync(FaultReason.FailedPrecondition, () => backup.CommitAsync(backup.Manifest(backup.Head with { Attempt = 2 })));
        await RefusedAsync(FaultReason.FailedPrecondition, () => backup.CommitAsync(backup.Manifest(backup.Head with { Generation = 99 })));
        var missing = new SealedBackup(agent, session, point, 1, [.. NewDisk().Reverse()]);
        await world.Role.Store.PutKeyAsync(agent.Caller, new PutKeyRequest { SessionId = session.SessionId, KeyObject = ByteString.CopyFrom(missing.KeyObject) }, World.Token);
        await RefusedAsync(FaultReason.Incomplete, () => missing.CommitAsync());
        Assert.Null(await world.Repository.FindPointAsync(point, World.Token));
        var committed = await backup.CommitAsync(backup.Manifest());
        Assert.True(committed.StoredBytes > 0);
        await RefusedAsync(FaultReason.AlreadyExists, () => backup.CommitAsync(backup.Manifest()));
    }

    [Fact]
    public async Task A_leaf_whose_secrets_do_not_open_is_refused()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var job = await world.StartBackupAsync(agent);
        var session = await BeginAsync(agent, job);
        var backup = new SealedBackup(agent, session, Id16.Parse(job.PointId), 1, NewDisk(), Tamper);
        await backup.UploadAsync();
        await RefusedAsync(FaultReason.Corrupt, () => backup.CommitAsync());

        static MapEntry Tamper(MapEntry entry) => entry.IsZero ? entry : entry with { MaskedSecret = entry.MaskedSecret ^ new Id32(1, 0) };
    }

    [Fact]
    public async Task Uploads_that_break_the_rules_end_and_the_lane_begins_anew_at_what_is_durable()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var job = await world.StartBackupAsync(agent);
        var session = await BeginAsync(agent, job);
        var backup = new SealedBackup(agent, session, Id16.Parse(job.PointId), 1, NewDisk());
        byte[] data = [.. backup.Chunks.SelectMany(chunk => chunk)];
        await RefusedAsync(FaultReason.InvalidArgument, () => backup.SendAsync(1, RecordKind.Data, data));
        await RefusedAsync(FaultReason.InvalidArgument, () => backup.SendAsync(5, RecordKind.Data, data));
        await RefusedAsync(FaultReason.InvalidArgument, () => backup.SendAsync(0, RecordKind.Data, data, Limits.SliceBytesMax + 1));
        var broken = (byte[])data.Clone();
        broken[0] ^= 1;
        Assert.NotEqual(FaultReason.Unspecified, (await Assert.ThrowsAsync<FaultException>(() => backup.SendAsync(0, RecordKind.Data, broken))).Reason);
        Assert.Equal((ulong)data.Length, (await backup.SendAsync(0, RecordKind.Data, data)).DurableOffset);
    }

    [Fact]
    public async Task A_point_is_read_only_by_the_job_that_restores_it()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var other = await world.EnrollAsync("host-2");
        var backup = await BackUpAsync(agent, NewDisk());
        var job = (await world.Role.Admin.StartRestoreAsync(new StartRestoreRequest { Point = backup.PointId, Agent = agent.Name }, World.Token)).Job;
        await RefusedAsync(FaultReason.Denied, () => ReadManifestAsync(other, job, backup.PointId));
        await RefusedAsync(FaultReason.Denied, () => ReadManifestAsync(agent, job, Id16.Create(SystemEntropy.Instance).ToString()));
        await world.Role.Admin.CancelJobAsync(new CancelJobRequest { JobId = job.JobId }, World.Token);
        await RefusedAsync(FaultReason.Fenced, () => ReadManifestAsync(agent, job, backup.PointId));
    }

    [Fact]
    public async Task Verification_is_a_job_and_finds_damage()
    {
        await using var world = await World.CreateAsync();
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(World.Token);
        var running = world.Role.RunAsync(stop.Token);
        var agent = await world.EnrollAsync();
        await BackUpAsync(agent, NewDisk());
        Assert.Equal(0UL, (await VerifyAsync(world)).DamagesTotal);
        await foreach (var info in world.Store.ListAsync("packs/", World.Token))
        {
            await world.Store.DeleteAsync(info.Key, World.Token);
        }
        var damaged = await VerifyAsync(world);
        Assert.Equal(2UL, damaged.DamagesTotal);
        Assert.Contains(damaged.Damages, damage => damage.Ranges.Any(range => range.StreamName == "vda" && range.VmName == agent.VmName));
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => running);
    }

    private static async Task<VerifyResult> VerifyAsync(World world)
    {
        var job = (await world.Role.Admin.StartVerifyAsync(new StartVerifyRequest { Full = true }, World.Token)).Job;
        await foreach (var response in world.Role.Admin.WatchJobAsync(new WatchJobRequest { JobId = job.JobId }, World.Token))
        {
            job = response.Job;
        }
        Assert.True(job.State == JobState.Succeeded, job.FailureMessage);
        return job.Result.Verify;
    }

    internal static async Task<BeginSessionResponse> BeginAsync(
        TestAgent agent, Protocol.Admin.V1.Job job, string requestId = "r", string resume = "", ulong attempt = 1, string basePoint = "") =>
        await agent.World.Role.Store.BeginSessionAsync(
            agent.Caller,
            new BeginSessionRequest
            {
                RequestId = requestId, JobId = job.JobId, Attempt = attempt, VmId = job.VmId, PointId = job.PointId, ResumeSessionId = resume, BasePointId = basePoint,
            },
            World.Token);

    internal static async Task<Protocol.Admin.V1.Job> BackUpAsync(TestAgent agent, byte[] disk, string basePoint = "")
    {
        var job = await agent.World.StartBackupAsync(agent);
        var backup = new SealedBackup(agent, await BeginAsync(agent, job, basePoint: basePoint), Id16.Parse(job.PointId), 1, disk);
        await backup.UploadAsync();
        await backup.CommitAsync();
        await agent.ReportAsync(job.JobId, 1, JobState.Succeeded, report => report.Backup = new BackupResult { PointId = job.PointId });
        return job;
    }

    internal static async Task<(Manifest Manifest, RestoreGrant Grant)> ReadManifestAsync(TestAgent agent, Protocol.Admin.V1.Job job, string pointId)
    {
        using var oneTimeKey = AgreementKey.Create(SystemEntropy.Instance);
        var request = new GrantRequest
        {
            Vm = Id16.Parse(job.VmId), Point = Id16.Parse(pointId), AgentKeyId = agent.SigningKeyId, Nonce = Id16.Create(SystemEntropy.Instance), OneTimeKey = oneTimeKey.Public,
        };
        var response = await agent.World.Role.Store.ReadManifestAsync(
            agent.Caller,
            new ReadManifestRequest { JobId = job.JobId, Attempt = 1, PointId = pointId, GrantRequest = ByteString.CopyFrom(request.Sign(agent.SigningKey)) },
            World.Token);
        var manifest = Manifest.Parse(response.Manifest.Memory);
        ManifestSealing.VerifySignature(manifest, response.AgentPublicKey.Span);
        return (manifest, RestoreGrant.Open(response.Grant.Span, request, oneTimeKey, agent.World.Time.GetUtcNow().ToUnixTimeMilliseconds()));
    }

    internal static async Task<byte[]> RestoreAsync(TestAgent agent, string pointId, int length, Func<Task>? midway = null)
    {
        var world = agent.World;
        var job = (await world.Role.Admin.StartRestoreAsync(new StartRestoreRequest { Point = pointId, Agent = agent.Name }, World.Token)).Job;
        var (manifest, grant) = await ReadManifestAsync(agent, job, pointId);
        using var _ = grant;
        using var ring = new ChunkKeyRing(grant.IdKeys);
        using var opener = new ChunkOpener(ring);
        var stream = manifest.Head.Streams[0];
        var ids = new List<Id32> { stream.Root };
        for (var level = stream.Geometry.Height; level > 0; level--)
        {
            var nodes = await ReadNodesAsync(agent, job, pointId, ids);
            ids = [.. nodes.SelectMany((node, i) => Children(MapInner.Parse(node, stream.Geometry.PlaceOf(level, i))))];
        }
        if (midway is not null)
        {
            await midway();
        }
        var leaves = await ReadNodesAsync(agent, job, pointId, ids);
        var request = new ReadRecordsRequest { JobId = job.JobId, Attempt = 1, PointId = pointId, StreamId = stream.Id.ToString() };
        request.Ranges.Add(new Protocol.Store.V1.ByteRange { Offset = 0, Length = (ulong)length });
        var records = (await CutAsync(world.Role.Store.ReadRecordsAsync(agent.Caller, request, World.Token))).ToDictionary(record => RecordHeader.Parse(record).Id);
        var disk = new byte[length];
        for (var i = 0; i < leaves.Count; i++)
        {
            var leaf = MapLeaf.Parse(leaves[i], stream.Geometry.PlaceOf(0, i));
            var at = (int)stream.Geometry.OffsetOf(0, i);
            for (var j = 0; j < leaf.Count; at += leaf[j].Length, j++)
            {
                if (!leaf[j].IsZero)
                {
                    opener.Open(records[leaf[j].Id], leaf[j].Id, grant.VmKeys[leaf[j].EpochId].Unmask(leaf[j].Id, leaf[j].MaskedSecret), disk.AsSpan(at, leaf[j].Length));
                }
            }
        }
        return disk;

        static IEnumerable<Id32> Children(MapInner inner) => Enumerable.Range(0, inner.Count).Select(i => inner[i]);
    }

    private static async Task<List<byte[]>> ReadNodesAsync(TestAgent agent, Protocol.Admin.V1.Job job, string pointId, List<Id32> ids)
    {
        var request = new ReadMapNodesRequest { JobId = job.JobId, Attempt = 1, PointId = pointId, Ids = ByteString.CopyFrom([.. ids.SelectMany(id => id.ToArray())]) };
        var records = await CutAsync(agent.World.Role.Store.ReadMapNodesAsync(agent.Caller, request, World.Token));
        return records.ConvertAll(record => record[RecordHeader.Size..]);
    }

    private static async Task<List<byte[]>> CutAsync(IAsyncEnumerable<PooledSlice> slices)
    {
        using var all = new MemoryStream();
        await foreach (var slice in slices)
        {
            using (slice)
            {
                Assert.InRange(slice.Memory.Length, 1, Limits.SliceBytesMax);
                all.Write(slice.Memory.Span);
            }
        }
        var bytes = all.ToArray();
        var records = new List<byte[]>();
        for (var at = 0; at < bytes.Length;)
        {
            var length = RecordHeader.Parse(bytes.AsSpan(at)).RecordLength;
            records.Add(bytes[at..(at + length)]);
            at += length;
        }
        return records;
    }

    private static async Task<RecoveryPoint> GetPointAsync(World world, string reference) =>
        (await world.Role.Admin.GetRecoveryPointAsync(new GetRecoveryPointRequest { Point = reference }, World.Token)).RecoveryPoint;

    private static byte[] Flip(byte[] bytes)
    {
        bytes[^40] ^= 1;
        return bytes;
    }
}
