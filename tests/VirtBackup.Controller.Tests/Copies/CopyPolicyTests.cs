using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Controller.Tests.Replication;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Controller.Tests.Copies;

/// <summary>What policies want, and what is said of it.</summary>
public sealed class CopyPolicyTests
{
    [Fact]
    public async Task What_is_not_so_is_told_with_the_reason_until_it_is_so()
    {
        await using var copies = await CopyWorld.CreateAsync();
        var policy = await copies.SetAsync(new CopyPolicy { Name = "three", AllVms = true, Copies = 3, Media = 2, OffSite = 1, WithinMinutes = 60 });
        Assert.Equal((3U, 60U), (policy.Copies, policy.WithinMinutes));
        Assert.Empty((await copies.World.Role.CopyPolicies.GetCopyStatusAsync(new GetCopyStatusRequest(), World.Token)).Machines);
        var point = await copies.BackUpAsync();

        var status = await copies.StatusAsync();
        Assert.Equal((CopyState.Pending, point, 1U, 1U, 0U, 1UL), (status.State, status.PointId, status.Copies, status.Media, status.OffSite, status.PointsPending));
        Assert.Equal(["1 of 3 copies", "1 of 2 kinds of storage", "0 of 1 off-site copy"], status.Reasons);
        Assert.Null(status.SinceTime);
        copies.World.Time.Advance(TimeSpan.FromMinutes(61));
        status = await copies.StatusAsync();
        Assert.Equal((CopyState.Overdue, 1UL), (status.State, status.PointsOverdue));
        Assert.NotNull(status.SinceTime);

        await copies.AddAsync("near");
        await copies.World.Role.CopyStores.AddCopyStoreAsync(new AddCopyStoreRequest { Name = "far", Location = "s3://bucket/far", OffSite = true }, World.Token);
        await copies.UntilAsync(async () => (await copies.StatusAsync()).State == CopyState.Met);
        status = await copies.StatusAsync();
        Assert.Equal((3U, 2U, 1U, 0UL), (status.Copies, status.Media, status.OffSite, status.PointsOverdue));
        Assert.Equal(["repository", "far", "near"], status.Places.Select(static place => place.Name).OrderBy(static name => name == "repository" ? "" : name));
        Assert.Empty(status.Reasons);
    }

    [Fact]
    public async Task Locks_are_placed_where_the_policy_wants_them_and_told()
    {
        await using var copies = await CopyWorld.CreateAsync();
        await copies.AddAsync("near");
        await copies.AddAsync("far");
        await copies.SetAsync(new CopyPolicy { Name = "locked", AllVms = true, LockDays = 10, LockedAt = "far" });
        await copies.BackUpAsync();
        await copies.UntilAsync(async () => (await copies.StatusAsync()).State == CopyState.Met);
        var status = await copies.StatusAsync();
        Assert.True(status.LockWanted);
        Assert.Equal(status.PointTime.ToDateTimeOffset() + TimeSpan.FromDays(10), status.LockedUntilTime.ToDateTimeOffset());
        Assert.Equal(["far"], status.Places.Where(static place => place.LockedUntilTime is not null).Select(static place => place.Name));
        // Longer for the points that are there, too.
        await copies.SetAsync(new CopyPolicy { Name = "locked", AllVms = true, LockDays = 20, LockedAt = "far" });
        // It may be so already.
        Assert.All((await copies.StatusAsync()).Reasons, static reason => Assert.Equal("not locked for long enough at far", reason));
        await copies.UntilAsync(async () => (await copies.StatusAsync()).State == CopyState.Met);
        status = await copies.StatusAsync();
        Assert.Equal(status.PointTime.ToDateTimeOffset() + TimeSpan.FromDays(20), status.LockedUntilTime.ToDateTimeOffset());
    }

    [Fact]
    public async Task A_damaged_copy_does_not_count()
    {
        await using var copies = await CopyWorld.CreateAsync();
        await copies.AddAsync("near");
        await copies.SetAsync(new CopyPolicy { Name = "two", AllVms = true, Copies = 2, WithinMinutes = 1 });
        await copies.BackUpAsync();
        await copies.UntilAsync(async () => (await copies.StatusAsync()).State == CopyState.Met);
        await copies.StopAsync();
        await foreach (var info in copies.At("near").ListAsync(Format.ObjectKeys.PacksPrefix, World.Token))
        {
            await copies.At("near").DeleteAsync(info.Key, World.Token);
        }
        copies.World.Places.Forget("near");
        await copies.RestartAsync();
        // It is seen at the opening, and mended from the repository.
        await copies.UntilAsync(async () => (await copies.StatusAsync()) is { State: CopyState.Met, Copies: 2 } && (await copies.GetAsync("near")).PackBytes > 0);
    }

    [Fact]
    public async Task A_peer_tells_what_it_has_and_counts_as_off_site()
    {
        await using var a = await Site.StartAsync("a");
        await using var b = await Site.StartAsync("b");
        var agent = await a.World.EnrollAsync();
        var point = (await StoreTests.BackUpAsync(agent, CopyWorld.NewDisk())).PointId;
        await a.Role.CopyPolicies.SetCopyPolicyAsync(new SetCopyPolicyRequest { Policy = new CopyPolicy { Name = "away", AllVms = true, Copies = 2, OffSite = 1 } }, World.Token);
        await b.JoinAsync(a, (await a.World.EnrollAsync("host-2")).VmName);
        Assert.Contains("0 of 1 off-site copy: no peer may read this machine (peer allow)", (await StatusAsync(a)).Reasons);
        await a.AllowAsync("b");
        // A lock where the point is not protects nothing.
        await a.Role.CopyPolicies.SetCopyPolicyAsync(new SetCopyPolicyRequest { Policy = new CopyPolicy { Name = "bound", AllVms = true, LockDays = 2, LockedAt = "b" } }, World.Token);
        Assert.Equal(["not locked at b: it is not there"], (await a.Role.CopyPolicies.GetCopyStatusAsync(new GetCopyStatusRequest(), World.Token)).Machines.Single(static of => of.Policy == "bound").Reasons);
        await a.Role.CopyPolicies.RemoveCopyPolicyAsync(new RemoveCopyPolicyRequest { Name = "bound" }, World.Token);
        Assert.Contains("0 of 1 off-site copy: no peer pulls this machine", (await StatusAsync(a)).Reasons);
        await b.SetRuleAsync("a", static rule => rule.LockDays = 3);
        await b.PullAsync("a");
        var status = await StatusAsync(a);
        Assert.Equal((CopyState.Met, 2U, 1U), (status.State, status.Copies, status.OffSite));
        var place = status.Places.Single(static place => place.Peer);
        Assert.Equal(("b", "folder", true), (place.Name, place.Kind, place.OffSite));
        Assert.NotNull(place.LockedUntilTime);
        // What is not there any more is told with the next run.
        b.World.Time.Advance(TimeSpan.FromDays(4));
        await b.Role.Admin.ForgetRecoveryPointAsync(new ForgetRecoveryPointRequest { Point = point }, World.Token);
        await b.PullAsync("a");
        Assert.Equal(CopyState.Pending, (await StatusAsync(a)).State);
        await a.Role.PeerAdmin.RevokePeerAsync(new RevokePeerRequest { Name = "b" }, World.Token);
        Assert.Contains("0 of 1 off-site copy", (await StatusAsync(a)).Reasons);
    }

    private static async Task<CopyStatus> StatusAsync(Site site) =>
        Assert.Single((await site.Role.CopyPolicies.GetCopyStatusAsync(new GetCopyStatusRequest(), World.Token)).Machines);

    [Fact]
    public async Task Policies_that_make_no_sense_are_refused()
    {
        await using var copies = await CopyWorld.CreateAsync();
        await copies.AddAsync("near");
        foreach (var (reason, policy) in new (FaultReason, CopyPolicy)[]
        {
            (FaultReason.InvalidArgument, new CopyPolicy { Name = "x" }),
            (FaultReason.InvalidArgument, new CopyPolicy { Name = "X", AllVms = true }),
            (FaultReason.InvalidArgument, new CopyPolicy { Name = "x", AllVms = true, Vms = { new CopyMachine { VmName = copies.Agent.VmName } } }),
            (FaultReason.InvalidArgument, new CopyPolicy { Name = "x", AllVms = true, Copies = 17 }),
            (FaultReason.InvalidArgument, new CopyPolicy { Name = "x", AllVms = true, Media = 4 }),
            (FaultReason.InvalidArgument, new CopyPolicy { Name = "x", AllVms = true, LockedAt = "near" }),
            (FaultReason.NotFound, new CopyPolicy { Name = "x", AllVms = true, At = { "nowhere" } }),
            (FaultReason.NotFound, new CopyPolicy { Name = "x", AllVms = true, RuleSet = "none" }),
            (FaultReason.NotFound, new CopyPolicy { Name = "x", Vms = { new CopyMachine { VmName = "nobody" } } }),
        })
        {
            Assert.Equal(reason, (await Assert.ThrowsAsync<FaultException>(() => copies.SetAsync(policy))).Reason);
        }
        Assert.Empty((await copies.World.Role.CopyPolicies.ListCopyPoliciesAsync(World.Token)).Policies);
        var unknown = new RemoveCopyPolicyRequest { Name = "x" };
        Assert.Equal(FaultReason.NotFound, (await Assert.ThrowsAsync<FaultException>(() => copies.World.Role.CopyPolicies.RemoveCopyPolicyAsync(unknown, World.Token).AsTask())).Reason);
    }
}
