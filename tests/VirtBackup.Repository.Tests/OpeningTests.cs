using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Tests.Fixtures;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Repository.Tests;

public sealed class OpeningTests
{
    private static CancellationToken Token => World.Token;

    [Fact]
    public async Task ARebuiltIndexEqualsTheOriginal()
    {
        await using var world = await World.CreateAsync(options: new RepositoryOptions { PackBytesTarget = 50_000 });
        var disk = Enumerable.Range(1, 300).Select(at => at % 9 == 0 ? 0 : at).ToArray();
        foreach (var seed in new[] { 1, 2 })
        {
            var machine = world.NewMachine(seed);
            for (var number = 1; number <= 4; number++)
            {
                disk[number * 31] = (seed * 1000) + number;
                await world.BackUpAsync(machine.Point(number, disk, at => (at / 100) + 1, tail: number));
            }
        }
        await using (var session = world.Begin())
        {
            await world.UploadAsync(session, world.NewMachine(3).Point(1, [7000, 7001]));
        }
        await world.Repository.ForgetAsync(world.NewMachine(1).Point(2, disk).Id, Token);
        var original = await world.DumpAsync();
        Assert.NotEmpty(original);
        await using var rebuilt = await world.RebuildAsync();
        Assert.True(rebuilt.Repository.OpenReport.Rebuilt);
        Assert.Empty(rebuilt.Repository.OpenReport.Problems);
        Assert.Equal(original, await rebuilt.DumpAsync());
        Assert.Equal(await world.Repository.GetStatisticsAsync(Token), await rebuilt.Repository.GetStatisticsAsync(Token));
    }

    [Fact]
    public async Task DamagedObjectsAreNamedAndLeftOut()
    {
        await using var world = await World.CreateAsync(options: new RepositoryOptions { PackBytesTarget = 20_000 });
        var kept = world.NewMachine(1).Point(1, [1, 2, 3]);
        var lost = world.NewMachine(2).Point(1, [.. Enumerable.Range(10, 20)]);
        await world.BackUpAsync(kept);
        var before = await world.KeysAsync(ObjectKeys.PacksPrefix);
        await world.BackUpAsync(lost);
        var pack = (await world.KeysAsync(ObjectKeys.PacksPrefix)).Except(before).First();
        var bytes = await world.Store.ReadAllAsync(pack, Limits.PackBytesMax, Token);
        await world.ReplaceAsync(pack, bytes[..^1]);
        var broken = ObjectKeys.Manifest(Machine.NameOf("vm", 9), Machine.NameOf("point", 9));
        await world.Store.PutAsync(broken, new byte[1000], Token);
        await using var rebuilt = await world.RebuildAsync();
        Assert.Equal(
            new[] { pack, broken, ObjectKeys.Manifest(lost.Machine.Vm, lost.Id) }.Order(StringComparer.Ordinal),
            rebuilt.Repository.OpenReport.Problems.Select(problem => problem.ObjectKey).Order(StringComparer.Ordinal));
        Assert.True((await rebuilt.Repository.FindPointAsync(kept.Id, Token))!.IsComplete);
        Assert.False((await rebuilt.Repository.FindPointAsync(lost.Id, Token))!.IsComplete);
        await rebuilt.AssertReadableAsync(kept);
    }

    [Fact]
    public async Task ANewOwnerFencesTheOldOne()
    {
        var store = new SimulatedStore();
        await using var first = await World.CreateAsync(store);
        Assert.Equal(1, first.Repository.Generation);
        var point = first.NewMachine(1).Point(1, [1]);
        await using var session = first.Begin();
        await first.UploadAsync(session, point);
        await using var second = await World.OpenAsync(store, World.NewIndex());
        Assert.Equal(2, second.Repository.Generation);
        Assert.Equal(FaultReason.Fenced, (await Assert.ThrowsAsync<FaultException>(async () => await first.CommitAsync(session, point))).Reason);
        await second.BackUpAsync(point);
        Assert.Equal(FaultReason.NotFound, (await Assert.ThrowsAsync<FaultException>(async () => await first.Repository.ForgetAsync(point.Id, Token))).Reason);
        await second.AssertReadableAsync(point);
    }

    [Fact]
    public async Task AnIndexIsUsedAgainAndAStaleOneIsRebuilt()
    {
        var store = new SimulatedStore();
        await World.InitializeAsync(store);
        await using var index = World.NewIndex();
        await using (var first = await World.OpenRepositoryAsync(store, index))
        {
            Assert.Equal(1, first.Generation);
        }
        await using (var again = await World.OpenRepositoryAsync(store, index))
        {
            Assert.Equal(2, again.Generation);
            Assert.False(again.OpenReport.Rebuilt);
        }
        await using (var elsewhere = await World.OpenAsync(store, World.NewIndex()))
        {
            Assert.True(elsewhere.Repository.OpenReport.Rebuilt);
            await elsewhere.BackUpAsync(elsewhere.NewMachine(1).Point(1, [1, 2]));
        }
        await using var stale = await World.OpenRepositoryAsync(store, index);
        Assert.Equal(4, stale.Generation);
        Assert.True(stale.OpenReport.Rebuilt);
        Assert.Single(await stale.ListPointsAsync(null, Token));
    }

    [Fact]
    public async Task AClaimThatFailedDoesNotMakeTheIndexStale()
    {
        var store = new SimulatedStore();
        await World.InitializeAsync(store);
        await using var index = World.NewIndex();
        await (await World.OpenRepositoryAsync(store, index)).DisposeAsync();
        var failing = store.Kill(new SimulatedStoreOptions { Inject = step => step.Step == SimulatedStep.GiveName ? FaultReason.Unavailable : null });
        await Assert.ThrowsAsync<FaultException>(async () => await World.OpenRepositoryAsync(failing, index));
        await using var opened = await World.OpenRepositoryAsync(failing.Kill(new SimulatedStoreOptions()), index);
        Assert.Equal(2, opened.Generation);
        Assert.False(opened.OpenReport.Rebuilt);
    }

    [Fact]
    public async Task AnIndexOfAnotherRepositoryIsRebuilt()
    {
        await using var first = await World.CreateAsync();
        await first.BackUpAsync(first.NewMachine(1).Point(1, [1, 2]));
        var store = new SimulatedStore();
        var head = new RepositoryHead { Uuid = Machine.NameOf("repository", 2), Created = DateTimeOffset.UnixEpoch, RestoreKey = [9] };
        await RepositoryInitializer.InitializeAsync(store, head, new Format.Keys.WrappedKey(Format.Keys.KeyId.Compute([9]), new byte[60]).ToBytes(), Token);
        await using var other = await World.OpenRepositoryAsync(store, first.Index);
        Assert.True(other.OpenReport.Rebuilt);
        Assert.Equal(new RepositoryStatistics(0, 0, 0, 0, 0, 0), await other.GetStatisticsAsync(Token));
    }

    [Fact]
    public async Task ALostPackLeadsToARebuildSoThatNothingGoneAnswersProbes()
    {
        await using var world = await World.CreateAsync();
        var point = world.NewMachine(1).Point(1, [1, 2]);
        await world.BackUpAsync(point);
        foreach (var pack in await world.KeysAsync(ObjectKeys.PacksPrefix))
        {
            await world.Store.DeleteAsync(pack, Token);
        }
        await using var reopened = await World.OpenRepositoryAsync(world.Store, world.Index);
        Assert.True(reopened.OpenReport.Rebuilt);
        Assert.Equal([0], await World.ProbeAsync(reopened, RecordKind.Data, World.Scope, Machine.ChunkId(1).ToArray()));
        Assert.Equal([0], await World.ProbeAsync(reopened, RecordKind.Map, World.Scope, point.Root.ToArray()));
        Assert.False((await reopened.FindPointAsync(point.Id, Token))!.IsComplete);
    }

    [Fact]
    public async Task APlaceThatIsNotEmptyIsRefusedAndAnInterruptedInitialisationIsFinished()
    {
        var store = new SimulatedStore();
        await World.InitializeAsync(store);
        Assert.Equal(FaultReason.AlreadyExists, (await Assert.ThrowsAsync<FaultException>(async () => await World.InitializeAsync(store))).Reason);
        var other = new SimulatedStore();
        await other.PutAsync("notes", new byte[1], Token);
        Assert.Equal(FaultReason.AlreadyExists, (await Assert.ThrowsAsync<FaultException>(async () => await World.InitializeAsync(other))).Reason);
        Assert.Equal(FaultReason.NotFound, (await Assert.ThrowsAsync<FaultException>(async () => await World.OpenRepositoryAsync(other, World.NewIndex()))).Reason);
        await store.DeleteAsync(ObjectKeys.Format, Token);
        await World.InitializeAsync(store);
    }

    [Fact]
    public async Task AForgottenPointIsGoneAndCanBeBroughtBack()
    {
        await using var world = await World.CreateAsync();
        var machine = world.NewMachine(1);
        var (first, second) = (machine.Point(1, [1, 2]), machine.Point(2, [1, 3]));
        await world.BackUpAsync(first);
        await world.BackUpAsync(second);
        await world.Repository.ForgetAsync(first.Id, Token);
        Assert.Null(await world.Repository.FindPointAsync(first.Id, Token));
        Assert.Equal(first.Id, Assert.Single(await world.Repository.ListForgottenAsync(Token)).Point);
        Assert.Equal(FaultReason.NotFound, (await Assert.ThrowsAsync<FaultException>(async () => await world.Repository.OpenPointAsync(first.Id, Token))).Reason);
        await using var rebuilt = await world.RebuildAsync();
        Assert.Equal(second.Id, Assert.Single(await rebuilt.Repository.ListPointsAsync(machine.Vm, Token)).Point);
        await rebuilt.Repository.RecallAsync(machine.Vm, first.Id, Token);
        await rebuilt.AssertReadableAsync(first);
        Assert.Empty(await rebuilt.Repository.ListForgottenAsync(Token));
        Assert.Equal(FaultReason.NotFound, (await Assert.ThrowsAsync<FaultException>(async () => await rebuilt.Repository.RecallAsync(machine.Vm, first.Id, Token))).Reason);
    }

    [Fact]
    public async Task ALockedPointCannotBeForgotten()
    {
        await using var world = await World.CreateAsync();
        var point = world.NewMachine(1).Point(1, [1]);
        await world.BackUpAsync(point);
        var now = new SetClock().GetUtcNow().ToUnixTimeMilliseconds();
        await world.Store.PutAsync(ObjectKeys.Lock(point.Id, now + 1), new byte[1], Token);
        await world.Store.PutAsync(ObjectKeys.Lock(point.Id, now - 1), new byte[1], Token);
        Assert.Equal(FaultReason.RetentionLocked, (await Assert.ThrowsAsync<FaultException>(async () => await world.Repository.ForgetAsync(point.Id, Token))).Reason);
        await world.Store.DeleteAsync(ObjectKeys.Lock(point.Id, now + 1), Token);
        await world.Repository.ForgetAsync(point.Id, Token);
    }
}
