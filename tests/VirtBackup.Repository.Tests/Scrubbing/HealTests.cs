using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Collection;
using VirtBackup.Repository.Scrubbing;
using VirtBackup.Repository.Tests.Collection;
using VirtBackup.Repository.Tests.Fixtures;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Repository.Tests.Scrubbing;

public sealed class HealTests
{
    private static readonly RepositoryOptions SmallPacks = new() { PackBytesTarget = 30_000 };
    private static readonly int[] Disk = [.. Enumerable.Range(1, 60)];

    private static CancellationToken Token => World.Token;

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task AnotherPlaceHeals(bool open)
    {
        await using var world = await World.CreateAsync(options: SmallPacks);
        var point = world.NewMachine(1).Point(1, Disk);
        await world.BackUpAsync(point);
        await world.HurtAsync(Machine.ChunkId(7));
        await world.HurtAsync(point.Root, payloadByte: 20);
        await world.ScrubAsync(open);
        Assert.False((await world.Repository.FindPointAsync(point.Id, Token))!.IsComplete);
        // One place has nothing, one has rubbish under the right names, one has it all.
        var rubbish = point.Chunks.Concat(point.Nodes).Select(record =>
        {
            var copy = record.ToArray();
            copy[^1] ^= 1;
            return copy;
        });
        IRecordSource[] sources = [new MemorySource([]), new MemorySource(rubbish), new FailingSource(), new MemorySource([.. point.Chunks, .. point.Nodes])];
        var nothing = await world.Repository.Upkeep.HealAsync(sources[..^1], new HashOpener(), Token);
        Assert.Empty(nothing.Healed);
        Assert.True(nothing.Missing >= 2);
        // Without keys nothing takes the place of a chunk, neither of a lost one nor of one in doubt.
        var keyless = await world.Repository.Upkeep.HealAsync(sources, opener: null, Token);
        Assert.Equal(new HealedRecord(RecordKind.Map, point.Root, Id16.Empty), Assert.Single(keyless.Healed).Record);
        Assert.Equal(nothing.Missing - 1, keyless.Missing);
        var report = await world.Repository.Upkeep.HealAsync(sources, new HashOpener(), Token);
        Assert.Equal((0L, keyless.Missing), (report.Missing, (long)report.Healed.Count));
        Assert.All(report.Healed, healed => Assert.Equal("memory", healed.Source));
        await world.AssertSoundAsync(point);
        Assert.DoesNotContain((await world.VerifyAsync(open: true)).Damages, damage => damage.Affected.Count > 0);
        await CollectionTests.CollectForDaysAsync(world, 12);
        Assert.Empty((await world.VerifyAsync(open: true)).Damages);
        await CollectionTests.AssertCountsAsync(world);
        Assert.Equal(0, (await world.Repository.Upkeep.HealAsync(sources, new HashOpener(), Token)).Missing);
    }

    /// <summary>The healed pack has the name of the damaged one, which is in its way: what was fetched is not fetched again.</summary>
    [Theory]
    [InlineData(RecordKind.Data)]
    [InlineData(RecordKind.Map)]
    public async Task WhatADamagedPackIsInTheWayOfIsAskedForOnce(RecordKind kind)
    {
        await using var world = await World.CreateAsync();
        var point = world.NewMachine(1).Point(1, [1]);
        await world.BackUpAsync(point);
        var key = await world.HurtAsync(kind == RecordKind.Data ? Machine.ChunkId(1) : point.Root, payloadByte: 20);
        await world.ScrubAsync(open: true);
        var source = new MemorySource([.. point.Chunks, .. point.Nodes]);
        Assert.Single((await world.Repository.Upkeep.HealAsync([source], new HashOpener(), Token)).Healed);
        Assert.Equal(1, source.Asked);
        Assert.Contains(key, await world.KeysAsync(ObjectKeys.PacksPrefix));
        await world.AssertSoundAsync(point);
    }

    /// <summary>A point that a rebuild found incomplete is healed and counted again.</summary>
    [Fact]
    public async Task AFullBackupMakesAPointWholeThatARebuildFoundIncomplete()
    {
        await using var first = await World.CreateAsync();
        var machine = first.NewMachine(1);
        var point = machine.Point(1, Disk);
        await first.BackUpAsync(point);
        var (key, _, _) = await first.FindPackAsync(Machine.ChunkId(1));
        await first.Store.DeleteAsync(key, Token);
        await using var world = await first.RebuildAsync();
        Assert.False((await world.Repository.FindPointAsync(point.Id, Token))!.IsComplete);
        Assert.NotEmpty(await world.Repository.Upkeep.FindLossesAsync(point.Id, Token));
        Assert.Equal(FaultReason.FailedPrecondition, (await Assert.ThrowsAsync<FaultException>(async () => await world.Repository.CollectAsync(new CollectionOptions(), Token))).Reason);
        await world.ReadInFullAsync(machine.Point(2, Disk));
        await world.AssertSoundAsync(point);
        await world.Repository.CollectAsync(new CollectionOptions(), Token);
        await CollectionTests.AssertCountsAsync(world);
    }

    /// <summary>Counts of what is in quarantine are known, so what nobody needs goes all the same, and nothing else does.</summary>
    [Fact]
    public async Task CollectionGoesOnBesideQuarantine()
    {
        await using var world = await World.CreateAsync(options: SmallPacks);
        var machine = world.NewMachine(1);
        var (kept, dropped) = (machine.Point(1, Disk), machine.Point(2, [.. Disk.Select(content => content + 1000)]));
        await world.BackUpAsync(kept);
        await world.BackUpAsync(dropped);
        await world.HurtAsync(Machine.ChunkId(7));
        await world.HurtAsync(Machine.ChunkId(1007));
        await world.ScrubAsync(open: true);
        await world.Repository.ForgetAsync(dropped.Id, Token);
        Assert.Equal(2, (await world.Repository.Upkeep.ListDamagedPointsAsync(Token)).Count);
        await CollectionTests.CollectForDaysAsync(world, 12);
        Assert.DoesNotContain(await world.DumpAsync(), line => line.Contains(Machine.ChunkId(1007).ToString(), StringComparison.Ordinal) || line.Contains(Machine.ChunkId(1020).ToString(), StringComparison.Ordinal));
        Assert.Contains(await world.DumpAsync(), line => line.StartsWith($"object Data {Machine.ChunkId(7)} scope={World.Scope} quarantined count=1", StringComparison.Ordinal));
        Assert.True((await world.Repository.AuditAsync(Token)).IsSound);
        await world.ReadInFullAsync(machine.Point(3, Disk));
        await world.AssertSoundAsync(kept);
        await CollectionTests.AssertCountsAsync(world);
    }

    /// <summary>What hangs below a node in quarantine is still counted; an audit that cannot read it stops all deletion.</summary>
    [Fact]
    public async Task BelowANodeInQuarantineNothingGoes()
    {
        await using var world = await World.CreateAsync(options: SmallPacks);
        var machine = world.NewMachine(1);
        var point = machine.Point(1, Disk);
        await world.BackUpAsync(point);
        await world.Repository.CollectAsync(new CollectionOptions(), Token);
        await world.HurtAsync(point.Root, payloadByte: 20);
        Assert.Equal(1, Assert.Single((await world.ScrubAsync(open: true)).Findings).RecordsLost);
        for (var day = 0; day < 12; day++)
        {
            ((SetClock)world.Clock).Pass(TimeSpan.FromHours(25));
            await world.Repository.CollectAsync(new CollectionOptions(), Token);
        }
        Assert.False((await world.Repository.AuditAsync(Token)).IsSound);
        Assert.Equal(FaultReason.FailedPrecondition, (await Assert.ThrowsAsync<FaultException>(async () => await world.Repository.CollectAsync(new CollectionOptions(), Token))).Reason);
        Assert.Equal(0, await world.ReadInFullAsync(machine.Point(2, Disk)));
        await world.AssertSoundAsync(point);
        Assert.True((await world.Repository.AuditAsync(Token)).IsSound);
    }

    /// <summary>Power is lost before every operation of the store while damage is taken out of use and healed.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task ACrashAnywhereLosesNothingMore(bool onlyFooter)
    {
        var isOver = false;
        for (var at = 0L; !isOver; at++)
        {
            var store = new SimulatedStore();
            var world = await World.CreateAsync(store, SmallPacks);
            var machine = world.NewMachine(1);
            var (point, small) = (machine.Point(1, Disk), world.NewMachine(2).Point(1, [900]));
            await world.BackUpAsync(point);
            await world.BackUpAsync(small);
            await HarmAsync(world, point, small, onlyFooter);
            store.CrashAt(store.Operations + at);
            try
            {
                await world.ScrubAsync(open: true);
                await world.Repository.Upkeep.HealAsync([new MemorySource(point.Chunks)], new HashOpener(), Token);
                isOver = true;
            }
            catch (Exception failure) when (failure is not Xunit.Sdk.XunitException)
            {
                // The power is gone.
            }
            var survivor = store.Kill(new SimulatedStoreOptions());
            await using var again = await World.OpenAsync(survivor, world.Index, SmallPacks, world.Clock);
            await again.ScrubAsync(open: true);
            if (!isOver)
            {
                await again.ReadInFullAsync(machine.Point(2, Disk));
                await again.ReadInFullAsync(small.Machine.Point(2, [900]));
            }
            await again.Repository.Upkeep.SettleAsync(Token);
            await again.AssertSoundAsync(point, small);
            Assert.True(at < 500);
        }
    }

    private static async Task HarmAsync(World world, PointBytes point, PointBytes small, bool onlyFooter)
    {
        if (!onlyFooter)
        {
            await world.HurtAsync(Machine.ChunkId(7));
            return;
        }
        foreach (var id in new[] { Machine.ChunkId(900), point.Root, small.Root })
        {
            var (key, _, pack) = await world.FindPackAsync(id);
            pack[^10] ^= 1;
            await world.ReplaceAsync(key, pack);
        }
    }

    private sealed class FailingSource : IRecordSource
    {
        public string Name => "unreachable";

        public ValueTask<ReadOnlyMemory<byte>?> FetchAsync(RecordKind kind, Id32 id, Id16 scope, CancellationToken cancellationToken) =>
            throw new FaultException(FaultReason.Unavailable, "It cannot be reached.");
    }
}
