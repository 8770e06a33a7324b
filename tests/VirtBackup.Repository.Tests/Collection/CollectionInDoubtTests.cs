using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Collection;
using VirtBackup.Repository.Tests.Fixtures;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Repository.Tests.Collection;

/// <summary>Where something is wrong around the collector: in doubt nothing is deleted, and doubt that is over stops nothing.</summary>
public sealed class CollectionInDoubtTests
{
    private static CancellationToken Token => World.Token;

    [Fact]
    public async Task NothingIsDeletedWhileStoreAndIndexDiffer()
    {
        await using var world = await World.CreateAsync(options: CollectionTests.SmallPacks);
        var first = world.NewMachine(1).Point(1, [1, 2, 3]);
        await world.BackUpAsync(first);
        await world.BackUpAsync(world.NewMachine(2).Point(1, [4, 5]));
        await world.Repository.ForgetAsync(first.Id, Token);
        var stray = ObjectKeys.Manifest(Machine.NameOf("vm", 9), Machine.NameOf("point", 9));
        await world.Store.PutAsync(stray, new byte[300], Token);
        CollectionTests.Clock(world).Pass(TimeSpan.FromDays(30));
        Assert.Equal(FaultReason.FailedPrecondition, (await Assert.ThrowsAsync<FaultException>(async () => await world.Repository.CollectAsync(new CollectionOptions(), Token))).Reason);
        await world.Store.DeleteAsync(stray, Token);
        await world.Store.DeleteAsync(ObjectKeys.Manifest(world.NewMachine(2).Vm, world.NewMachine(2).Point(1, [4, 5]).Id), Token);
        Assert.Equal(FaultReason.FailedPrecondition, (await Assert.ThrowsAsync<FaultException>(async () => await world.Repository.CollectAsync(new CollectionOptions(), Token))).Reason);
        Assert.Single(await world.Repository.ListForgottenAsync(Token));
    }

    [Fact]
    public async Task AWallClockThatWasSetBackMakesNothingOld()
    {
        await using var world = await World.CreateAsync(options: CollectionTests.SmallPacks);
        var point = world.NewMachine(1).Point(1, [1, 2, 3]);
        await world.BackUpAsync(point);
        var trusted = new SetTime { NowMs = CollectionTests.Clock(world).GetUtcNow().AddDays(50).ToUnixTimeMilliseconds() };
        var options = new CollectionOptions { Time = trusted };
        await world.Repository.CollectAsync(options, Token);
        // The wall clock is 50 days behind from here on.
        await world.Repository.ForgetAsync(point.Id, Token);
        await using (var session = world.Begin())
        {
            await world.UploadAsync(session, world.NewMachine(2).Point(1, [7, 8, 9]));
        }
        for (var i = 0; i < 5; i++)
        {
            trusted.NowMs += (long)TimeSpan.FromHours(4).TotalMilliseconds;
            Assert.Equal(0, (await world.Repository.CollectAsync(options, Token)).PointsPurged);
        }
        Assert.Equal([7], await World.ProbeAsync(world.Repository, RecordKind.Data, World.Scope, CollectionTests.Ids(7, 8, 9)));
        await world.Repository.RecallAsync(point.Machine.Vm, point.Id, Token);
        await world.AssertReadableAsync(point);
        trusted.MayExpire = false;
        Assert.Equal(FaultReason.FailedPrecondition, (await Assert.ThrowsAsync<FaultException>(async () => await world.Repository.CollectAsync(options, Token))).Reason);
    }

    [Fact]
    public async Task AFullDeviceStopsOnlyWhatWrites()
    {
        var isFull = false;
        var store = new SimulatedStore(new SimulatedStoreOptions { Inject = step => isFull && step.Step == SimulatedStep.Write ? FaultReason.DeviceFull : null });
        await using var world = await World.CreateAsync(store, CollectionTests.SmallPacks);
        var disk = Enumerable.Range(1, 60).ToArray();
        var machine = world.NewMachine(1);
        var all = machine.Point(1, disk);
        var other = world.NewMachine(2).Point(1, [.. Enumerable.Range(500, 20)]);
        await world.BackUpAsync(all);
        await world.BackUpAsync(other);
        await world.BackUpAsync(machine.Point(2, [.. disk.Select(content => content % 2 == 0 ? content : 0)]));
        await world.Repository.ForgetAsync(all.Id, Token);
        await world.Repository.ForgetAsync(other.Id, Token);
        isFull = true;
        var (deleted, problems) = (0L, 0);
        for (var i = 0; i < 12; i++)
        {
            CollectionTests.Clock(world).Pass(CollectionTests.Day);
            var report = await world.Repository.CollectAsync(new CollectionOptions(), Token);
            deleted += report.PacksDeleted;
            problems += report.Problems.Count;
        }
        Assert.NotEqual(0, deleted);
        Assert.NotEqual(0, problems);
        isFull = false;
        await CollectionTests.CollectForDaysAsync(world, 3);
        await CollectionTests.AssertNothingUnneededAsync(world, deadPercentMax: 30);
    }

    [Fact]
    public async Task BackupsLeaveRoomForForgettingAndCollecting()
    {
        var store = new SimulatedStore(new SimulatedStoreOptions { CapacityBytes = Limits.StoreReserveBytes + (512 << 10) });
        await using var world = await World.CreateAsync(store, CollectionTests.SmallPacks);
        var points = new List<PointBytes>();
        var full = await Assert.ThrowsAsync<FaultException>(async () =>
        {
            for (var seed = 1; seed < 100; seed++)
            {
                var point = world.NewMachine(seed).Point(1, [.. Enumerable.Range(seed * 100, 20)]);
                await world.BackUpAsync(point);
                points.Add(point);
            }
        });
        Assert.Equal(FaultReason.DeviceFull, full.Reason);
        Assert.NotEmpty(points);
        Assert.True(await store.GetFreeBytesAsync(Token) >= Limits.StoreReserveBytes - (64 << 10));
        foreach (var point in points)
        {
            await world.Repository.ForgetAsync(point.Id, Token);
        }
        await CollectionTests.CollectForDaysAsync(world, 12);
        await world.BackUpAsync(world.NewMachine(200).Point(1, [.. Enumerable.Range(50_000, 20)]));
    }

    [Fact]
    public async Task AManifestThatCameBackIsNeverPurged()
    {
        await using var world = await World.CreateAsync(options: CollectionTests.SmallPacks);
        var point = world.NewMachine(1).Point(1, [1, 2, 3]);
        await world.BackUpAsync(point);
        await world.Repository.ForgetAsync(point.Id, Token);
        await world.Store.PutAsync(ObjectKeys.Manifest(point.Machine.Vm, point.Id), point.Manifest, Token);
        CollectionTests.Clock(world).Pass(TimeSpan.FromDays(30));
        Assert.Equal(FaultReason.FailedPrecondition, (await Assert.ThrowsAsync<FaultException>(async () => await world.Repository.CollectAsync(new CollectionOptions(), Token))).Reason);
        await using var again = await world.RestartAsync(CollectionTests.SmallPacks);
        Assert.Single(await again.Repository.ListPointsAsync(null, Token));
        await CollectionTests.CollectForDaysAsync(again, 12);
        await again.AssertReadableAsync(point);
    }

    [Fact]
    public async Task APointThatGotBackWhatItLackedStopsNothing()
    {
        await using var world = await World.CreateAsync(options: CollectionTests.SmallPacks);
        var point = world.NewMachine(1).Point(1, [.. Enumerable.Range(1, 30)]);
        await world.BackUpAsync(point);
        var pack = (await world.KeysAsync(ObjectKeys.PacksPrefix))[0];
        var bytes = await world.Store.ReadAllAsync(pack, Limits.PackBytesMax, Token);
        await world.Store.DeleteAsync(pack, Token);
        await using var damaged = await world.RebuildAsync(CollectionTests.SmallPacks);
        Assert.Equal(FaultReason.FailedPrecondition, (await Assert.ThrowsAsync<FaultException>(async () => await damaged.Repository.CollectAsync(new CollectionOptions(), Token))).Reason);
        await world.Store.PutAsync(pack, bytes, Token);
        await using var healed = await damaged.RestartAsync(CollectionTests.SmallPacks);
        await CollectionTests.CollectForDaysAsync(healed, 12);
        Assert.True((await healed.Repository.FindPointAsync(point.Id, Token))!.IsComplete);
        await healed.AssertReadableAsync(point);
        await CollectionTests.AssertCountsAsync(healed);
    }

    private sealed class SetTime : ITrustedClock
    {
        public long NowMs { get; set; }

        public bool MayExpire { get; set; } = true;

        public ValueTask<TrustedTime> ReadAsync(CancellationToken cancellationToken) => new(new TrustedTime(NowMs, MayExpire));
    }
}
