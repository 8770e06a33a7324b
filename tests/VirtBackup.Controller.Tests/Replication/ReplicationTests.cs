using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;
using static VirtBackup.Controller.Tests.EnrollmentTests;
using static VirtBackup.Controller.Tests.StoreTests;

namespace VirtBackup.Controller.Tests.Replication;

public sealed class ReplicationTests
{
    [Fact]
    public async Task Points_are_pulled_listed_as_sealed_and_not_pulled_twice()
    {
        await using var a = await Site.StartAsync("a");
        await using var b = await Site.StartAsync("b");
        await b.JoinAsync(a);
        await b.SetRuleAsync("a");
        var agent = await a.World.EnrollAsync();
        var first = await BackUpAsync(agent, NewDisk());
        a.World.Time.Advance(TimeSpan.FromSeconds(1));
        var second = await BackUpAsync(agent, Changed(NewDisk()));
        var result = await b.PullAsync("a");
        Assert.Equal((2UL, 0UL), (result.PointsReceived, result.PointsRefused));
        var points = await b.ListAsync();
        Assert.Equal([second.PointId, first.PointId], points.Select(static point => point.PointId));
        Assert.All(points, point => Assert.Equal(
            (agent.VmName, a.World.RepositoryId.ToString(), "a", true), (point.VmName, point.Origin.RepositoryId, point.Origin.Peer, point.Origin.Sealed)));
        var machine = Assert.Single((await b.Role.Admin.ListVirtualMachinesAsync(new ListVirtualMachinesRequest(), World.Token)).VirtualMachines);
        Assert.Equal((agent.VmName, "a", 2U), (machine.Name, machine.Peer, machine.RecoveryPoints));
        var before = b.World.Peers.Received;
        Assert.Equal(0UL, (await b.PullAsync("a")).PointsReceived);
        Assert.Equal(before, b.World.Peers.Received);
        var verified = await b.WaitAsync((await b.Role.Admin.StartVerifyAsync(new StartVerifyRequest(), World.Token)).Job);
        Assert.Equal(0UL, verified.Result.Verify.DamagesTotal);
    }

    [Fact]
    public async Task A_second_point_costs_only_what_it_changed()
    {
        await using var a = await Site.StartAsync("a");
        await using var b = await Site.StartAsync("b");
        await b.JoinAsync(a);
        var agent = await a.World.EnrollAsync();
        await BackUpAsync(agent, NewDisk());
        var first = await b.PullAsync("a");
        await BackUpAsync(agent, Changed(NewDisk()));
        var second = await b.PullAsync("a");
        Assert.InRange(first.ChunksReceived, 200UL, 400UL);
        Assert.Equal(1UL, second.ChunksReceived);
    }

    [Fact]
    public async Task A_pull_goes_on_after_cuts_and_brings_nothing_twice()
    {
        await using var a = await Site.StartAsync("a");
        await using var b = await Site.StartAsync("b");
        await b.JoinAsync(a);
        var agent = await a.World.EnrollAsync();
        await BackUpAsync(agent, NewDisk());
        var cuts = 0;
        b.World.Peers.CutAfter = () => cuts < 12 ? 100_000 + (cuts++ * 30_000) : long.MaxValue;
        Job job;
        var runs = 0;
        do
        {
            job = await b.WaitAsync(await b.StartPullAsync("a"));
            Assert.True(job.State == JobState.Succeeded || job.FailureReason == ErrorReason.Unavailable, job.FailureMessage);
            Assert.True(job.State == JobState.Succeeded == ((await b.ListAsync()).Count == 1));
            Assert.True(++runs < 20);
        }
        while (job.State != JobState.Succeeded);
        Assert.True(runs > 1);
        var verified = await b.WaitAsync((await b.Role.Admin.StartVerifyAsync(new StartVerifyRequest(), World.Token)).Job);
        Assert.Equal(0UL, verified.Result.Verify.DamagesTotal);
    }

    [Fact]
    public async Task A_receiver_is_told_and_given_only_what_it_is_allowed()
    {
        await using var a = await Site.StartAsync("a");
        await using var b = await Site.StartAsync("b");
        var mine = await a.World.EnrollAsync("host-1");
        var theirs = await a.World.EnrollAsync("host-2");
        await BackUpAsync(mine, NewDisk());
        await BackUpAsync(theirs, Changed(NewDisk()));
        await b.JoinAsync(a, mine.VmName);
        Assert.Equal(1UL, (await b.PullAsync("a")).PointsReceived);
        Assert.Equal(mine.VmName, Assert.Single(await b.ListAsync()).VmName);
        await a.AllowAsync("b", theirs.VmName);
        Assert.Equal(1UL, (await b.PullAsync("a")).PointsReceived);
        await a.Role.PeerAdmin.AllowPeerAsync(new AllowPeerRequest { Name = "b" }, World.Token);
        await BackUpAsync(mine, Changed(NewDisk()));
        Assert.Equal(0UL, (await b.PullAsync("a")).PointsReceived);
    }

    [Fact]
    public async Task What_was_forgotten_here_is_not_pulled_again_unless_asked()
    {
        await using var a = await Site.StartAsync("a");
        await using var b = await Site.StartAsync("b");
        await b.JoinAsync(a);
        await b.SetRuleAsync("a");
        var agent = await a.World.EnrollAsync();
        var job = await BackUpAsync(agent, NewDisk());
        await b.PullAsync("a");
        await b.Role.Admin.ForgetRecoveryPointAsync(new ForgetRecoveryPointRequest { Point = job.PointId }, World.Token);
        // A rule that is set anew asks for everything again.
        await b.SetRuleAsync("a");
        Assert.Equal(0UL, (await b.PullAsync("a")).PointsReceived);
        Assert.Empty(await b.ListAsync());
        await b.SetRuleAsync("a");
        await b.PullAsync("a", static request => request.Again = true);
        Assert.Single(await b.ListAsync());
    }

    [Fact]
    public async Task A_chain_passes_points_on_without_their_keys_and_both_directions_meet()
    {
        await using var a = await Site.StartAsync("a");
        await using var b = await Site.StartAsync("b");
        await using var c = await Site.StartAsync("c");
        await b.JoinAsync(a);
        await a.JoinAsync(b);
        await c.JoinAsync(b);
        var here = await a.World.EnrollAsync("host-a");
        var there = await b.World.EnrollAsync("host-b");
        var disk = NewDisk();
        var made = await BackUpAsync(here, disk);
        await BackUpAsync(there, Changed(disk));
        await Task.WhenAll(b.PullAsync("a"), a.PullAsync("b"));
        await Task.WhenAll(b.PullAsync("a"), a.PullAsync("b"));
        Assert.Equal(2UL, (await c.PullAsync("b")).PointsReceived);
        Assert.All([a, b, c], site => Assert.Equal(2, site.ListAsync().Result.Count));
        // The first site's kit opens its points two sites further.
        Assert.Equal(1UL, (await c.UnlockAsync(a)).RecoveryPoints);
        var agent = await c.World.EnrollAsync("host-c");
        Assert.Equal(disk, await RestoreAsync(agent, made.PointId, disk.Length));
    }

    [Fact]
    public async Task A_sealed_point_says_how_it_is_unlocked_and_is_restored_after_that()
    {
        await using var a = await Site.StartAsync("a");
        await using var b = await Site.StartAsync("b");
        await b.JoinAsync(a);
        var agent = await a.World.EnrollAsync();
        var disk = NewDisk();
        var made = await BackUpAsync(agent, disk);
        await b.PullAsync("a");
        var there = await b.World.EnrollAsync("host-b");
        await RefusedAsync(FaultReason.FailedPrecondition, async () => await b.Role.Admin.StartRestoreAsync(new StartRestoreRequest { Point = made.PointId, Agent = there.Name }, World.Token));
        await RefusedAsync(FaultReason.NotFound, async () => await a.UnlockAsync(b));
        Assert.Equal(1UL, (await b.UnlockAsync(a)).RecoveryPoints);
        Assert.False(Assert.Single(await b.ListAsync()).Origin.Sealed);
        Assert.Equal(disk, await RestoreAsync(there, made.PointId, disk.Length));
        await b.RestartAsync(loseCatalog: true);
        var point = Assert.Single(await b.ListAsync());
        Assert.Equal((agent.VmName, false), (point.VmName, point.Origin.Sealed));
    }

    [Fact]
    public async Task Lag_is_told_for_each_machine_and_goes_with_the_pull()
    {
        await using var a = await Site.StartAsync("a");
        await using var b = await Site.StartAsync("b");
        await b.JoinAsync(a);
        await b.SetRuleAsync("a", static rule => (rule.LockDays, rule.Streams) = (3, 2));
        var agent = await a.World.EnrollAsync();
        var made = await BackUpAsync(agent, NewDisk());
        await b.PullAsync("a");
        var machine = Assert.Single((await b.Role.Rules.GetReplicationStatusAsync(new GetReplicationStatusRequest(), World.Token)).Rules[0].Machines);
        Assert.Equal((agent.VmName, 0UL, 0UL), (machine.VmName, machine.LagMs, machine.PointsMissing));
        Assert.Equal(machine.NewestSourceTime, machine.NewestHereTime);
        await RefusedAsync(FaultReason.RetentionLocked, async () => await b.Role.Admin.ForgetRecoveryPointAsync(new ForgetRecoveryPointRequest { Point = made.PointId }, World.Token));
    }

    /// <summary>One chunk is another one.</summary>
    internal static byte[] Changed(byte[] disk)
    {
        byte[] changed = [.. disk];
        changed[100 * 4096] ^= 1;
        return changed;
    }
}
