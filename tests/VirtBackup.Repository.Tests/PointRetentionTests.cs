using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Repository.Collection;
using VirtBackup.Repository.Points;
using VirtBackup.Repository.Tests.Fixtures;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Repository.Tests;

/// <summary>What locked points need is retained by the store's provider, all of it, and nothing tries to delete it.</summary>
public sealed class PointRetentionTests
{
    private static readonly RepositoryOptions SmallPacks = new() { PackBytesTarget = 20_000 };

    private readonly SetClock _clock = new();

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task WhatIsRetainedIsEnoughToRestoreThePoint()
    {
        var inner = new SimulatedStore();
        var store = new RetainingStore(inner, _clock);
        await using var world = await World.CreateAsync(store, SmallPacks, _clock);
        var machine = world.NewMachine(1);
        var (first, second) = Two(machine);
        await world.BackUpAsync(first);
        await world.BackUpAsync(second);
        await world.BackUpAsync(world.NewMachine(2).Point(1, [.. Enumerable.Range(500, 60)]));
        await new PointLocks(store).LengthenAsync(second.Id, Day(30), Token);
        Assert.Equal(await world.Repository.Retention.RetainAsync(second.Id, Day(30), Token), store.Until.Count);
        Assert.All(store.Until.Values, until => Assert.Equal(Day(30), until));
        Assert.Contains(ObjectKeys.Lock(second.Id, Day(30)), store.Until.Keys);
        Assert.DoesNotContain(ObjectKeys.Manifest(machine.Vm, first.Id), store.Until.Keys);
        Assert.True(store.Until.Count < (await world.KeysAsync("")).Count);
        // All the rest is lost.
        foreach (var key in (await world.KeysAsync("")).Where(key => !store.Until.ContainsKey(key)))
        {
            await inner.DeleteAsync(key, Token);
        }
        await using var left = await world.RebuildAsync(SmallPacks);
        await left.AssertReadableAsync(second);
        Assert.Empty((await left.VerifyAsync(open: true)).Damages);
    }

    [Fact]
    public async Task ARunThatIsCutOffGoesOnAndALongerLockAsksAnew()
    {
        var store = new RetainingStore(new SimulatedStore(), _clock);
        await using var world = await World.CreateAsync(store, SmallPacks, _clock);
        var point = world.NewMachine(1).Point(1, [.. Enumerable.Range(1, 90)]);
        await world.BackUpAsync(point);
        // Requests of one group that succeed beside one that fails may be asked for again.
        store.Left = 8;
        var away = await Assert.ThrowsAsync<FaultException>(async () => await world.Repository.Retention.RetainAsync(point.Id, Day(10), Token));
        Assert.Equal(FaultReason.Unavailable, away.Reason);
        Assert.True((await world.Repository.Retention.CountAsync(Day(1), Token)).Open > 0);
        store.Left = int.MaxValue;
        await using var restarted = await world.RestartAsync(SmallPacks);
        var retention = restarted.Repository.Retention;
        await retention.RetainAsync(point.Id, Day(10), Token);
        long objects = store.Until.Count;
        Assert.Equal((objects, 0L), await retention.CountAsync(Day(1), Token));
        Assert.InRange(store.Asked.Count, objects, objects + 8);
        store.Asked.Clear();
        Assert.Equal(0, await retention.RetainAsync(point.Id, Day(10), Token));
        Assert.Equal(0, await retention.RetainAsync(point.Id, Day(5), Token));
        Assert.Empty(store.Asked);
        Assert.Equal(objects, await retention.RetainAsync(point.Id, Day(11), Token));
        Assert.All(store.Until.Values, until => Assert.Equal(Day(11), until));
    }

    [Fact]
    public async Task APromiseThatCouldBeBrokenDoesNotCountWhereNobodyMayBreakIt()
    {
        var store = new RetainingStore(new SimulatedStore(), _clock);
        await using var world = await World.CreateAsync(store, SmallPacks, _clock);
        var point = world.NewMachine(1).Point(1, [.. Enumerable.Range(1, 30)]);
        await world.BackUpAsync(point);
        var retention = world.Repository.Retention;
        var objects = await retention.RetainAsync(point.Id, Day(10), Token);
        store.IsFinal = true;
        Assert.Equal(objects, await retention.RetainAsync(point.Id, Day(10), Token));
        Assert.Equal(0, await retention.RetainAsync(point.Id, Day(10), Token));
        // The stronger one is as good where the weaker would do.
        store.IsFinal = false;
        Assert.Equal(0, await retention.RetainAsync(point.Id, Day(10), Token));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task WhatIsRetainedIsNeitherDeletedNorWrittenAnewUntilItsTimeIsOver(bool isIndexMadeAnew)
    {
        var store = new RetainingStore(new SimulatedStore(), _clock);
        await using var created = await World.CreateAsync(store, SmallPacks, _clock);
        var (all, kept) = Two(created.NewMachine(1));
        await created.BackUpAsync(all);
        await created.BackUpAsync(kept);
        await created.Repository.Retention.RetainAsync(all.Id, Day(30), Token);
        // Whether a point may be forgotten is judged by its lock, which is over by then.
        store.Until.Remove(ObjectKeys.Manifest(all.Machine.Vm, all.Id));
        await created.Repository.ForgetAsync(all.Id, Token);
        await using var world = isIndexMadeAnew ? await created.RebuildAsync(SmallPacks) : await created.RestartAsync(SmallPacks);
        var packs = (await world.KeysAsync(ObjectKeys.PacksPrefix)).Where(store.Until.ContainsKey).ToList();
        var report = await CollectAsync(world, days: 20);
        Assert.Equal((0L, 0L), (report.Deleted, report.Repacked));
        Assert.DoesNotContain(store.Refused, static key => key.StartsWith(ObjectKeys.PacksPrefix, StringComparison.Ordinal));
        Assert.Subset((await world.KeysAsync(ObjectKeys.PacksPrefix)).ToHashSet(), packs.ToHashSet());
        report = await CollectAsync(world, days: 20);
        Assert.True(report.Deleted > 0);
        await world.AssertReadableAsync(kept);
        Assert.Empty((await world.VerifyAsync(open: true)).Damages);
    }

    [Fact]
    public async Task RecordsStayWhereALockCameWhileTheyWereCopied()
    {
        var store = new RetainingStore(new SimulatedStore(), _clock);
        var hooked = new HookedStore(store);
        await using var world = await World.CreateAsync(hooked, SmallPacks, _clock);
        var (all, kept) = Two(world.NewMachine(1));
        await world.BackUpAsync(all);
        await world.BackUpAsync(kept);
        await world.Repository.ForgetAsync(all.Id, Token);
        var isLocked = false;
        hooked.AfterRead = async (key, offset, bytes) =>
        {
            // A whole pack: it is about to be written anew.
            if (!isLocked && offset == 0 && bytes.Length > 10_000 && key.StartsWith(ObjectKeys.PacksPrefix, StringComparison.Ordinal))
            {
                isLocked = true;
                await world.Repository.Retention.RetainAsync(kept.Id, Day(60), Token);
            }
        };
        await CollectAsync(world, days: 20);
        Assert.True(isLocked);
        var needed = store.Until.Keys.Where(static key => key.StartsWith(ObjectKeys.PacksPrefix, StringComparison.Ordinal)).ToHashSet();
        Assert.Equal(0, await world.Repository.Retention.RetainAsync(kept.Id, Day(60), Token));
        Assert.Subset((await world.KeysAsync(ObjectKeys.PacksPrefix)).ToHashSet(), needed);
        await world.AssertReadableAsync(kept);
    }

    [Fact]
    public async Task WhereTheProviderRetainsNothingNothingIsAsked()
    {
        await using var world = await World.CreateAsync();
        var point = world.NewMachine(1).Point(1, [1, 2, 3]);
        await world.BackUpAsync(point);
        Assert.False(world.Repository.Retention.IsOn);
        await world.Repository.Retention.RequireAsync(Token);
        Assert.Equal(0, await world.Repository.Retention.RetainAsync(point.Id, long.MaxValue, Token));
    }

    [Fact]
    public async Task TakingBackANewRepositoryTakesNobodyElses()
    {
        var store = new SimulatedStore();
        await World.InitializeAsync(store);
        var own = new RepositoryHead { Uuid = World.Uuid, Created = DateTimeOffset.UnixEpoch, RestoreKey = new byte[] { 1, 2, 3 } };
        await store.PutAsync("packs/of-others", new byte[1], Token);
        await RepositoryInitializer.RemoveAsync(store, own with { Uuid = new Id16(7) }, Token);
        Assert.Equal(World.Uuid, (await BackupRepository.ReadHeadAsync(store, Token)).Uuid);
        Assert.NotNull(await store.FindAsync(ObjectKeys.RestoreKey(Format.Keys.KeyId.Compute(own.RestoreKey)), Token));
        await RepositoryInitializer.RemoveAsync(store, own, Token);
        Assert.Equal(["packs/of-others"], await ListAsync(store));
    }

    private static (PointBytes All, PointBytes Kept) Two(Machine machine)
    {
        var disk = Enumerable.Range(1, 60).ToArray();
        return (machine.Point(1, disk), machine.Point(2, [.. disk.Select(content => content % 2 == 0 ? content : 0)]));
    }

    private static async Task<List<string>> ListAsync(SimulatedStore store)
    {
        var keys = new List<string>();
        await foreach (var found in store.ListAsync("", Token))
        {
            keys.Add(found.Key);
        }
        return keys;
    }

    private static long Day(int day) => DateTimeOffset.UnixEpoch.AddDays(20_000 + day).ToUnixTimeMilliseconds();

    private async Task<(long Deleted, long Repacked)> CollectAsync(World world, int days)
    {
        var (deleted, repacked) = (0L, 0L);
        for (var day = 0; day < days; day++)
        {
            _clock.Pass(TimeSpan.FromDays(1));
            var report = await world.Repository.CollectAsync(new CollectionOptions(), Token);
            (deleted, repacked) = (deleted + report.PacksDeleted, repacked + report.PacksRepacked);
        }
        return (deleted, repacked);
    }
}
