using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Repository.Verification;
using VirtBackup.Sealing;

namespace VirtBackup.Controller.Tests.Copies;

/// <summary>Second places of the repository: how they are filled, kept, and taken when the first is lost.</summary>
public sealed class CopyStoreTests
{
    private static readonly CopyPolicy Everything = new() { Name = "everything", AllVms = true };

    [Fact]
    public async Task A_controller_is_set_up_over_a_copy_when_the_repository_is_lost()
    {
        await using var copies = await CopyWorld.CreateAsync();
        var disks = new[] { CopyWorld.NewDisk(), CopyWorld.NewDisk() };
        var first = await copies.BackUpAsync(disks[0]);
        await copies.AddAsync("second");
        await copies.SetAsync(Everything);
        await copies.UntilCompleteAsync("second", 1);
        // A backup is copied without anybody asking.
        var second = await copies.BackUpAsync(disks[1]);
        await copies.UntilCompleteAsync("second", 2);
        await copies.StopAsync();

        await using var saved = await copies.World.SetUpOverAsync(copies.At("second"));
        Assert.Equal(copies.World.Repository.Head.Uuid, saved.Repository.Head.Uuid);
        var listed = (await saved.Role.Admin.ListRecoveryPointsAsync(new ListRecoveryPointsRequest(), World.Token)).RecoveryPoints;
        Assert.Equal([second, first], listed.Select(static point => point.PointId));
        Assert.All(listed, static point => Assert.False(point.Damaged));
        var agent = await saved.EnrollAsync("host-9");
        Assert.Equal(disks[0], await StoreTests.RestoreAsync(agent, first, disks[0].Length));
        Assert.Equal(disks[1], await StoreTests.RestoreAsync(agent, second, disks[1].Length));
        var verified = await saved.Repository.VerifyAsync(new VerificationOptions { Signatures = new KeptSignatures(saved.Store) }, World.Token);
        Assert.Equal(0, verified.DamageCount);
        // It goes on as a repository of its own.
        var third = await StoreTests.BackUpAsync(agent, disks[0]);
        Assert.Equal(disks[0], await StoreTests.RestoreAsync(agent, third.PointId, disks[0].Length));
    }

    [Fact]
    public async Task Only_what_a_policy_wants_is_copied()
    {
        await using var copies = await CopyWorld.CreateAsync();
        var other = await copies.World.EnrollAsync("host-2");
        await StoreTests.BackUpAsync(other, CopyWorld.NewDisk());
        await copies.BackUpAsync();
        await copies.AddAsync("second");
        await copies.AddAsync("third");
        await copies.UntilCompleteAsync("second", 0);
        await copies.SetAsync(new CopyPolicy { Name = "one", Vms = { new CopyMachine { VmName = other.VmName } }, At = { "second" } });
        await copies.UntilCompleteAsync("second", 1);
        await copies.UntilCompleteAsync("third", 0);
        Assert.Equal(other.VmId.ToString(), (await copies.StatusAsync()).VmId);
        Assert.Equal(0UL, (await copies.RunAsync("second")).PointsCopied);
    }

    [Fact]
    public async Task What_is_forgotten_goes_there_too_and_comes_back()
    {
        await using var copies = await CopyWorld.CreateAsync();
        var points = new[] { await copies.BackUpAsync(), await copies.BackUpAsync() };
        await copies.AddAsync("second");
        await copies.SetAsync(Everything);
        await copies.UntilCompleteAsync("second", 2);
        var admin = copies.World.Role.Admin;
        await admin.ForgetRecoveryPointAsync(new ForgetRecoveryPointRequest { Point = points[0] }, World.Token);
        await copies.UntilCompleteAsync("second", 1);
        Assert.Null(await copies.At("second").FindAsync(ObjectKeys.Manifest(copies.Agent.VmId, Id16.Parse(points[0])), World.Token));
        await admin.ForgetRecoveryPointAsync(new ForgetRecoveryPointRequest { Point = points[0], Undo = true }, World.Token);
        await copies.UntilCompleteAsync("second", 2);
    }

    /// <summary>Whatever took it from the repository, it was nobody who said that it may go.</summary>
    [Fact]
    public async Task What_is_lost_without_being_forgotten_stays_in_the_copy()
    {
        await using var copies = await CopyWorld.CreateAsync();
        var point = Id16.Parse(await copies.BackUpAsync());
        await copies.BackUpAsync();
        await copies.AddAsync("second");
        await copies.SetAsync(Everything);
        await copies.UntilCompleteAsync("second", 2);
        await copies.World.Store.DeleteAsync(ObjectKeys.Manifest(copies.Agent.VmId, point), World.Token);
        await copies.RestartAsync(loseIndex: true);
        await copies.UntilAsync(async () => (await copies.GetAsync("second")).PointsOnlyThere == 1);
        Assert.Equal(0UL, (await copies.RunAsync("second")).PointsForgotten);
        Assert.NotNull(await copies.At("second").FindAsync(ObjectKeys.Manifest(copies.Agent.VmId, point), World.Token));
        Assert.Equal((2UL, 0UL), await copies.GetAsync("second") is var store ? (store.Points, store.PointsKept) : default);
    }

    [Fact]
    public async Task Rule_sets_and_locks_keep_points_there_longer()
    {
        await using var copies = await CopyWorld.CreateAsync();
        var retention = copies.World.Role.Retention;
        await retention.SetRuleSetAsync(new SetRuleSetRequest { Name = "two", Rules = new RetentionRules { KeepLast = 2 } }, World.Token);
        await copies.AddAsync("plain");
        await copies.AddAsync("ruled");
        await copies.AddAsync("locked");
        await copies.SetAsync(new CopyPolicy { Name = "plain", AllVms = true, At = { "plain" } });
        await copies.SetAsync(new CopyPolicy { Name = "ruled", AllVms = true, At = { "ruled" }, RuleSet = "two" });
        await copies.SetAsync(new CopyPolicy { Name = "locked", AllVms = true, At = { "locked" }, LockDays = 5 });
        var points = new[] { await copies.BackUpAsync(), await copies.BackUpAsync(), await copies.BackUpAsync() };
        foreach (var store in new[] { "plain", "ruled", "locked" })
        {
            await copies.UntilCompleteAsync(store, 3);
        }
        foreach (var point in points[..2])
        {
            await copies.World.Role.Admin.ForgetRecoveryPointAsync(new ForgetRecoveryPointRequest { Point = point }, World.Token);
        }
        // Of three the two newest stay by the rule; the locked ones all do.
        await copies.UntilCompleteAsync("plain", 1);
        await copies.UntilCompleteAsync("ruled", 2);
        await copies.UntilAsync(async () => (await copies.GetAsync("locked")).PointsKept == 2);
        Assert.Equal((3UL, 1UL), ((await copies.GetAsync("locked")).Points, (await copies.GetAsync("ruled")).PointsKept));
        Assert.Equal(0UL, (await copies.RunAsync("locked")).PointsForgotten);
        await copies.UntilAsync(async () => (await copies.GetAsync("locked")).Points == 1, TimeSpan.FromMinutes(20));
    }

    [Fact]
    public async Task A_lock_that_a_policy_wants_later_holds_what_the_repository_let_go_before()
    {
        await using var copies = await CopyWorld.CreateAsync();
        await copies.World.Role.Retention.SetRuleSetAsync(new SetRuleSetRequest { Name = "two", Rules = new RetentionRules { KeepLast = 2 } }, World.Token);
        await copies.AddAsync("second");
        await copies.SetAsync(new CopyPolicy { Name = "held", AllVms = true, RuleSet = "two" });
        var points = new[] { await copies.BackUpAsync(), await copies.BackUpAsync() };
        await copies.UntilCompleteAsync("second", 2);
        await copies.World.Role.Admin.ForgetRecoveryPointAsync(new ForgetRecoveryPointRequest { Point = points[0] }, World.Token);
        await copies.UntilAsync(async () => (await copies.GetAsync("second")).PointsKept == 1);
        // The rule set that kept it is not the policy's any more, and the lock is.
        await copies.SetAsync(new CopyPolicy { Name = "held", AllVms = true, LockDays = 5 });
        var result = await copies.RunAsync("second");
        Assert.Equal((0UL, 0UL), (result.PointsForgotten, result.PointsRefused));
        Assert.Equal(2UL, (await copies.GetAsync("second")).Points);
        await copies.UntilAsync(async () => (await copies.GetAsync("second")).Points == 1, TimeSpan.FromMinutes(20));
    }

    [Fact]
    public async Task No_two_places_of_copies_are_called_the_same()
    {
        await using var copies = await CopyWorld.CreateAsync();
        await copies.AddAsync("second");
        foreach (var name in new[] { "second", "repository" })
        {
            var refused = await Assert.ThrowsAsync<FaultException>(
                () => copies.World.Role.PeerAdmin.CreatePeerTokenAsync(new CreatePeerTokenRequest { Name = name }, World.Token).AsTask());
            Assert.Equal(FaultReason.AlreadyExists, refused.Reason);
        }
    }

    [Fact]
    public async Task Locks_of_the_repository_are_carried_over()
    {
        await using var copies = await CopyWorld.CreateAsync();
        var point = await copies.BackUpAsync();
        var until = copies.World.Time.GetUtcNow() + TimeSpan.FromDays(30);
        var request = new LockPointRequest { Point = point, Until = Google.Protobuf.WellKnownTypes.Timestamp.FromDateTimeOffset(until) };
        await copies.World.Role.Retention.LockPointAsync(request, World.Token);
        await copies.AddAsync("second");
        await copies.SetAsync(Everything);
        await copies.UntilCompleteAsync("second", 1);
        await copies.UntilAsync(async () =>
            await copies.At("second").FindAsync(ObjectKeys.Lock(Id16.Parse(point), until.ToUnixTimeMilliseconds()), World.Token) is not null);
    }

    [Fact]
    public async Task Damage_is_healed_from_the_other_place_on_either_side()
    {
        await using var copies = await CopyWorld.CreateAsync();
        await copies.BackUpAsync();
        await copies.AddAsync("second");
        await copies.SetAsync(Everything);
        await copies.UntilCompleteAsync("second", 1);

        await CopyWorld.HurtAsync(copies.At("second"));
        // In this order: that nothing is damaged is true before the damage is found, too.
        await copies.UntilAsync(async () => await WasHealedAsync(copies) && await copies.GetAsync("second") is { DamagesOpen: 0, Points: 1 }, TimeSpan.FromHours(6));
        // Hours at a step may have been too much for its lease.
        await copies.UntilCompleteAsync("second", 1);

        await CopyWorld.HurtAsync(copies.World.Store);
        var job = (await copies.World.Role.Admin.StartScrubAsync(new StartScrubRequest(), World.Token)).Job;
        await copies.UntilAsync(async () => (job = await copies.World.GetJobAsync(job.JobId)).Result is not null);
        Assert.Equal((1UL, 1UL, 0UL), (job.Result.Scrub.DamagesTotal, job.Result.Scrub.RecordsHealed, job.Result.Scrub.RecordsMissing));
        Assert.False(Assert.Single((await copies.World.Role.Admin.ListRecoveryPointsAsync(new ListRecoveryPointsRequest(), World.Token)).RecoveryPoints).Damaged);
    }

    [Fact]
    public async Task A_store_that_cannot_be_reached_is_told_and_filled_later()
    {
        await using var copies = await CopyWorld.CreateAsync();
        await copies.AddAsync("second");
        await copies.SetAsync(Everything);
        await copies.UntilCompleteAsync("second", 0);
        copies.World.Places.Unreachable[CopyWorld.LocationOf("second")] = true;
        await copies.RestartAsync();
        await copies.BackUpAsync();
        await copies.UntilAsync(async () => (await copies.GetAsync("second")).Problem.Contains("cannot be reached", StringComparison.Ordinal));
        Assert.Equal((false, 1UL), await copies.GetAsync("second") is var store ? (store.Open, store.PointsMissing) : default);
        copies.World.Places.Unreachable.Clear();
        await copies.UntilCompleteAsync("second", 1);
    }

    /// <summary>The catalog knows what was copied; without it the stores say so, and nothing that they hold goes.</summary>
    [Fact]
    public async Task A_lost_catalog_is_told_of_its_stores_again()
    {
        await using var copies = await CopyWorld.CreateAsync();
        await copies.BackUpAsync();
        await copies.AddAsync("second");
        await copies.SetAsync(Everything);
        await copies.UntilCompleteAsync("second", 1);
        await copies.RestartAsync(loseCatalog: true);
        Assert.Empty((await copies.World.Role.CopyStores.ListCopyStoresAsync(World.Token)).Stores);
        await copies.AddAsync("again");
        await RefusedAsync(FaultReason.NotFound, () => copies.GetAsync("second"));
        await copies.World.Role.CopyStores.AddCopyStoreAsync(new AddCopyStoreRequest { Name = "second-again", Location = CopyWorld.LocationOf("second") }, World.Token);
        await copies.UntilCompleteAsync("second-again", 1);
        Assert.Equal(0UL, (await copies.RunAsync("second-again")).PointsCopied);
    }

    [Fact]
    public async Task Places_and_names_that_do_not_do_are_refused()
    {
        await using var copies = await CopyWorld.CreateAsync();
        await copies.AddAsync("second");
        await RefusedAsync(FaultReason.AlreadyExists, () => copies.AddAsync("second"));
        foreach (var location in new[] { CopyWorld.LocationOf("second"), CopyWorld.LocationOf("second/"), CopyWorld.LocationOf("second/below"), "/copies", "/" })
        {
            await RefusedAsync(FaultReason.AlreadyExists, () => AddAsync(copies, "third", location));
        }
        foreach (var name in new[] { "", "Second", "../x", ".x", "repository", new string('a', 64) })
        {
            await RefusedAsync(FaultReason.InvalidArgument, () => AddAsync(copies, name, "/copies/x"));
        }
        foreach (var location in new[] { "", "copies/x", "ftp://x", "s3://" })
        {
            await RefusedAsync(FaultReason.InvalidArgument, () => AddAsync(copies, "x", location));
        }
        // Another repository, and something that is none.
        await using var foreign = await CopyWorld.CreateAsync();
        await foreach (var info in foreign.World.Store.ListAsync("", World.Token))
        {
            await copies.At("foreign").PutAsync(info.Key, await foreign.World.Store.ReadAllAsync(info.Key, Limits.ManifestBytesMax, World.Token), World.Token);
        }
        await RefusedAsync(FaultReason.FailedPrecondition, () => copies.AddAsync("foreign"));
        await copies.At("photos").PutAsync("photos/cat", new byte[9], World.Token);
        await RefusedAsync(FaultReason.AlreadyExists, () => copies.AddAsync("photos"));
        Assert.Single((await copies.World.Role.CopyStores.ListCopyStoresAsync(World.Token)).Stores);
        await RefusedAsync(FaultReason.NotFound, () => copies.RunAsync("third"));
    }

    [Fact]
    public async Task A_store_is_removed_when_no_policy_names_it_and_keeps_what_it_has()
    {
        await using var copies = await CopyWorld.CreateAsync();
        var point = Id16.Parse(await copies.BackUpAsync());
        await copies.AddAsync("second");
        await copies.SetAsync(new CopyPolicy { Name = "named", AllVms = true, At = { "second" } });
        await copies.UntilCompleteAsync("second", 1);
        var request = new RemoveCopyStoreRequest { Name = "second" };
        await RefusedAsync(FaultReason.FailedPrecondition, () => copies.World.Role.CopyStores.RemoveCopyStoreAsync(request, World.Token).AsTask());
        await copies.World.Role.CopyPolicies.RemoveCopyPolicyAsync(new RemoveCopyPolicyRequest { Name = "named" }, World.Token);
        await copies.World.Role.CopyStores.RemoveCopyStoreAsync(request, World.Token);
        await RefusedAsync(FaultReason.NotFound, () => copies.World.Role.CopyStores.RemoveCopyStoreAsync(request, World.Token).AsTask());
        Assert.NotNull(await copies.At("second").FindAsync(ObjectKeys.Manifest(copies.Agent.VmId, point), World.Token));
        // It is closed: it can be opened by another name.
        await copies.World.Role.CopyStores.AddCopyStoreAsync(new AddCopyStoreRequest { Name = "renamed", Location = CopyWorld.LocationOf("second") }, World.Token);
        await copies.UntilCompleteAsync("renamed", 1);
    }

    private static async Task<bool> WasHealedAsync(CopyWorld copies)
    {
        // A pack of the damaged one's records was written anew: its old object is on its way out, or gone.
        var packs = 0;
        await foreach (var _ in copies.At("second").ListAsync(ObjectKeys.PacksPrefix, World.Token))
        {
            packs++;
        }
        return packs != 2;
    }

    private static Task<AddCopyStoreResponse> AddAsync(CopyWorld copies, string name, string location) =>
        copies.World.Role.CopyStores.AddCopyStoreAsync(new AddCopyStoreRequest { Name = name, Location = location }, World.Token).AsTask();

    private static async Task RefusedAsync(FaultReason reason, Func<Task> call) => Assert.Equal(reason, (await Assert.ThrowsAsync<FaultException>(call)).Reason);
}
