using Google.Protobuf;
using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Replication.V1;
using VirtBackup.Protocol.Transport;
using static VirtBackup.Controller.Tests.EnrollmentTests;
using static VirtBackup.Controller.Tests.Replication.ReplicationTests;
using static VirtBackup.Controller.Tests.StoreTests;

namespace VirtBackup.Controller.Tests.Replication;

/// <summary>What a copy is good for at the other site, and on the way back.</summary>
public sealed class OtherSiteTests
{
    [Fact]
    public async Task A_machine_that_goes_on_at_the_other_site_comes_back_as_a_difference()
    {
        await using var a = await Site.StartAsync("a");
        await using var b = await Site.StartAsync("b");
        await b.JoinAsync(a);
        await a.JoinAsync(b);
        var here = await a.World.EnrollAsync("host-a");
        var disk = NewDisk();
        var made = await BackUpAsync(here, disk);
        await b.PullAsync("a");
        await b.UnlockAsync(a);
        // The restored machine keeps its id, and an agent of the other site has it now.
        var there = await TestAgent.EnrollAsync(b.World, "host-b", await b.World.NewTokenAsync("host-b"), here.VmId);
        await there.ReportInventoryAsync();
        b.World.Time.Advance(TimeSpan.FromMinutes(1));
        var job = await b.World.StartBackupAsync(there);
        var session = await BeginAsync(there, job);
        Assert.Equal((a.World.RepositoryId.ToString(), 2UL), (session.RepositoryId, session.Sequence));
        var backup = new SealedBackup(there, session, Id16.Parse(job.PointId), 1, Changed(disk));
        await backup.UploadAsync();
        await backup.CommitAsync();
        var back = await a.PullAsync("b");
        Assert.Equal((1UL, 1UL), (back.PointsReceived, back.ChunksReceived));
        var newest = (await a.ListAsync())[0];
        Assert.Equal((job.PointId, 2UL, true), (newest.PointId, newest.Sequence, newest.Origin is null));
        Assert.Equal(Changed(disk), await RestoreAsync(here, job.PointId, disk.Length));
        // And at home the machine goes on behind it.
        var next = await BeginAsync(here, await a.World.StartBackupAsync(here), requestId: "next");
        Assert.Equal((a.World.RepositoryId.ToString(), 3UL), (next.RepositoryId, next.Sequence));
        Assert.NotEqual(made.PointId, job.PointId);
    }

    [Fact]
    public async Task Without_keys_a_machine_begins_anew_in_the_sites_own_name()
    {
        await using var a = await Site.StartAsync("a");
        await using var b = await Site.StartAsync("b");
        await b.JoinAsync(a);
        var here = await a.World.EnrollAsync("host-a");
        await BackUpAsync(here, NewDisk());
        await b.PullAsync("a");
        var there = await TestAgent.EnrollAsync(b.World, "host-b", await b.World.NewTokenAsync("host-b"), here.VmId);
        await there.ReportInventoryAsync();
        var session = await BeginAsync(there, await b.World.StartBackupAsync(there));
        Assert.Equal((b.World.RepositoryId.ToString(), 1UL, 0), (session.RepositoryId, session.Sequence, session.PreviousManifest.Length));
    }

    [Fact]
    public async Task A_receiver_that_cannot_call_pulls_over_what_is_offered()
    {
        await using var a = await Site.StartAsync("a");
        await using var b = await Site.StartAsync("b");
        await a.OfferAsync(b);
        var agent = await a.World.EnrollAsync();
        await BackUpAsync(agent, NewDisk());
        // The source looks every few seconds whom it offers to.
        while (!(await b.Role.PeerAdmin.GetPeerAsync(new GetPeerRequest { Name = "a" }, World.Token)).Peer.Connected)
        {
            a.World.Time.Advance(TimeSpan.FromSeconds(5));
            await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, World.Token);
        }
        Assert.Equal(1UL, (await b.PullAsync("a")).PointsReceived);
        Assert.Single(await b.ListAsync());
        Assert.Equal(0UL, (await b.PullAsync("a")).PointsReceived);
    }

    [Fact]
    public async Task A_peer_is_denied_points_nodes_and_records_of_other_machines()
    {
        await using var a = await Site.StartAsync("a");
        await using var b = await Site.StartAsync("b");
        var mine = await a.World.EnrollAsync("host-1");
        var theirs = await a.World.EnrollAsync("host-2");
        await BackUpAsync(mine, NewDisk());
        var secret = await BackUpAsync(theirs, Changed(NewDisk()));
        await b.JoinAsync(a, mine.VmName);
        await using var transport = b.World.Peers.Open("a", "there:1");
        await using var stream = transport.Pull(World.Token);
        var head = await ReadHeadAsync(a, theirs, secret.PointId);
        Ask[] asks =
        [
            new() { ReadPoint = new ReadPointAsk { PointId = secret.PointId } },
            new() { ReadNodes = new ReadNodesAsk { PointId = secret.PointId, Ids = ByteString.CopyFrom(head.Streams[0].Root.ToArray()) } },
            new() { ReadRecords = new ReadRecordsAsk { PointId = secret.PointId, StreamId = head.Streams[0].Id.ToString(), SkipTake = { 0, 4096 } } },
            new() { ReadRecord = new ReadRecordAsk { Kind = RecordKind.Map, Id = ByteString.CopyFrom(head.Streams[0].Root.ToArray()), ScopeId = head.Scope.ToString() } },
        ];
        foreach (var ask in asks)
        {
            await stream.SendAsync(ask, World.Token);
            Assert.Equal(Protocol.Common.V1.ErrorReason.Denied, (await ReceiveAsync(stream)).Fault.Reason);
        }
        // Denials end answers, not the stream.
        await stream.SendAsync(new Ask { ListPoints = new ListPointsAsk() }, World.Token);
        Assert.Equal(mine.VmName, Assert.Single((await ReceiveAsync(stream)).Points.Points).VmName);
    }

    [Fact]
    public async Task A_revoked_peer_loses_the_stream_that_is_open()
    {
        await using var a = await Site.StartAsync("a");
        await using var b = await Site.StartAsync("b");
        await b.JoinAsync(a);
        await using var transport = b.World.Peers.Open("a", "there:1");
        await using var stream = transport.Pull(World.Token);
        await stream.SendAsync(new Ask { ListPoints = new ListPointsAsk() }, World.Token);
        Assert.Equal(Answer.PartOneofCase.Points, (await ReceiveAsync(stream)).PartCase);
        await a.Role.PeerAdmin.RevokePeerAsync(new RevokePeerRequest { Name = "b" }, World.Token);
        await RefusedAsync(FaultReason.Denied, async () =>
        {
            while (true)
            {
                _ = await ReceiveAsync(stream);
            }
        });
    }

    [Fact]
    public async Task Peers_heal_each_others_damaged_chunks()
    {
        await using var a = await Site.StartAsync("a");
        await using var b = await Site.StartAsync("b");
        await b.JoinAsync(a);
        await a.JoinAsync(b);
        var agent = await a.World.EnrollAsync();
        var disk = NewDisk();
        var made = await BackUpAsync(agent, disk);
        await b.PullAsync("a");
        foreach (var site in (Site[])[a, b])
        {
            foreach (var pack in await ListPacksAsync(site))
            {
                site.World.Store.Rot(pack, Flip);
                await ScrubAsync(site);
                if (site == b)
                {
                    // Without keys nobody knows which chunks of the pack are damaged: the next run brings the point's anew.
                    await b.PullAsync("a");
                    await ScrubAsync(b);
                }
                var verified = await site.WaitAsync((await site.Role.Admin.StartVerifyAsync(new StartVerifyRequest(), World.Token)).Job);
                Assert.True(verified.Result.Verify.DamagesTotal == 0, $"{site.Name}: {verified.Result.Verify}");
            }
        }
        Assert.Equal(disk, await RestoreAsync(agent, made.PointId, disk.Length));
    }

    private static async Task ScrubAsync(Site site)
    {
        // What was proven in the same millisecond is not read again.
        site.World.Time.Advance(TimeSpan.FromSeconds(1));
        var done = await site.WaitAsync((await site.Role.Admin.StartScrubAsync(new StartScrubRequest(), World.Token)).Job);
        Assert.True(done.State == Protocol.Common.V1.JobState.Succeeded, done.FailureMessage);
    }

    private static async Task<List<string>> ListPacksAsync(Site site)
    {
        var packs = new List<string>();
        await foreach (var info in site.World.Store.ListAsync("packs/", World.Token))
        {
            packs.Add(info.Key);
        }
        return packs;
    }

    private static byte[] Flip(byte[] bytes)
    {
        bytes[bytes.Length / 3] ^= 1;
        return bytes;
    }

    private static async Task<ManifestHead> ReadHeadAsync(Site site, TestAgent agent, string point)
    {
        var bytes = await site.World.Store.ReadAllAsync(Format.ObjectKeys.Manifest(agent.VmId, Id16.Parse(point)), Limits.ManifestBytesMax, World.Token);
        return Manifest.Parse(bytes).Head;
    }

    private static async Task<Answer> ReceiveAsync(IDuplex<Ask, Answer> stream)
    {
        await foreach (var answer in stream.ReceiveAsync(World.Token))
        {
            if (answer.PartCase != Answer.PartOneofCase.None)
            {
                return answer;
            }
        }
        throw new FaultException(FaultReason.Unavailable, "The stream ended.");
    }
}
