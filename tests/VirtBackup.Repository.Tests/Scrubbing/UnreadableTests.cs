using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Collection;
using VirtBackup.Repository.Tests.Collection;
using VirtBackup.Repository.Tests.Fixtures;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Repository.Tests.Scrubbing;

/// <summary>Devices that do not give out what they hold: for a moment, or for good.</summary>
public sealed class UnreadableTests
{
    private static readonly RepositoryOptions SmallPacks = new() { PackBytesTarget = 30_000 };
    private static readonly int[] Disk = [.. Enumerable.Range(1, 60)];

    private readonly HookedStore _store = new(new SimulatedStore());

    private static CancellationToken Token => World.Token;

    /// <summary>One unreadable pack of map nodes must not keep damage elsewhere in use.</summary>
    [Fact]
    public async Task AnUnreadableMapDoesNotStopRepair()
    {
        await using var world = await World.CreateAsync(_store, SmallPacks);
        var (point, other) = (world.NewMachine(1).Point(1, Disk), world.NewMachine(2).Point(1, [900, 901]));
        await world.BackUpAsync(point);
        await world.BackUpAsync(other);
        var (map, _, _) = await world.FindPackAsync(other.Root);
        await world.HurtAsync(Machine.ChunkId(7));
        _store.Fail = (key, _, _) => key == map ? FaultReason.Unavailable : null;
        var report = await world.ScrubAsync(open: true);
        Assert.Equal(1, Assert.Single(report.Findings).RecordsLost);
        Assert.Equal(map, Assert.Single(report.Problems).ObjectKey);
        _store.Fail = null;
        Assert.Equal([0], await World.ProbeAsync(world.Repository, RecordKind.Data, World.Scope, Machine.ChunkId(7).ToArray()));
        Assert.Equal(1, await world.ReadInFullAsync(point.Machine.Point(2, Disk)));
        await world.AssertSoundAsync(point, other);
    }

    /// <summary>The usual way in which disks fail: some bytes cannot be read any more, at all.</summary>
    [Theory]
    [InlineData(RecordKind.Data)]
    [InlineData(RecordKind.Map)]
    public async Task WhatCannotBeReadForADayIsInDoubt(RecordKind kind)
    {
        await using var world = await World.CreateAsync(_store, SmallPacks);
        var point = world.NewMachine(1).Point(1, Disk);
        await world.BackUpAsync(point);
        var (key, entry, _) = await world.FindPackAsync(kind == RecordKind.Data ? Machine.ChunkId(7) : RecordHeader.Parse(point.Nodes[0]).Id);
        _store.Fail = (read, offset, count) => read == key && offset < entry.Offset + entry.Header.RecordLength && offset + count > entry.Offset ? FaultReason.Unavailable : null;
        foreach (var hours in new[] { 0, 12, 11 })
        {
            ((SetClock)world.Clock).Pass(TimeSpan.FromHours(hours));
            var early = await world.ScrubAsync(open: true);
            Assert.Empty(early.Findings);
            Assert.Equal(key, Assert.Single(early.Problems).ObjectKey);
        }
        ((SetClock)world.Clock).Pass(TimeSpan.FromHours(2));
        var report = await world.ScrubAsync(open: true);
        var finding = Assert.Single(report.Findings);
        Assert.Equal((key, 0L, 1L, 0L), (finding.ObjectKey, finding.RecordsLost, finding.RecordsDoubtful, finding.RecordsSaved));
        // Nothing new relies on it, and it is told; what is beside it is relied on.
        Assert.False((await world.Repository.FindPointAsync(point.Id, Token))!.IsComplete);
        var loss = Assert.Single(await world.Repository.Upkeep.FindLossesAsync(point.Id, Token));
        Assert.True(loss.IsDoubtful);
        Assert.Equal(kind == RecordKind.Data ? new ByteRange(6 * 4096, 4096) : new ByteRange(0, 4 * 4096), loss.Range.Range);
        if (kind == RecordKind.Data)
        {
            Assert.Equal([0b10], await World.ProbeAsync(world.Repository, RecordKind.Data, World.Scope, Machine.ChunkId(7).ToArray().Concat(Machine.ChunkId(8).ToArray()).ToArray()));
        }
        Assert.Equal(1, Assert.Single(await world.Repository.Upkeep.ListDamagesAsync(Token)).RecordsDoubtful);
        var proof = await world.Repository.Upkeep.ReadProofAsync(world.Clock.GetUtcNow().ToUnixTimeMilliseconds(), Token);
        Assert.InRange(proof.BytesProven, 1, proof.Bytes - 1);
        // It is there again, as it was.
        _store.Fail = null;
        await world.ScrubAsync(open: true);
        await world.Repository.Upkeep.SettleAsync(Token);
        await world.AssertSoundAsync(point);
        Assert.Empty((await world.VerifyAsync(open: true)).Damages);
        await CollectionTests.AssertCountsAsync(world);
    }

    /// <summary>What is in doubt for good is sent again, and the pack goes, although nobody can read what is in it.</summary>
    [Fact]
    public async Task AnUnreadablePackGoesWhenItIsNotNeeded()
    {
        await using var world = await World.CreateAsync(_store);
        var point = world.NewMachine(1).Point(1, Disk);
        await world.BackUpAsync(point);
        var (key, _, _) = await world.FindPackAsync(Machine.ChunkId(7));
        _store.Fail = (read, _, _) => read == key ? FaultReason.Unavailable : null;
        await world.ScrubAsync(open: true);
        ((SetClock)world.Clock).Pass(TimeSpan.FromHours(25));
        Assert.Equal(60, Assert.Single((await world.ScrubAsync(open: true)).Findings).RecordsDoubtful);
        Assert.Equal(60, await world.ReadInFullAsync(point.Machine.Point(2, Disk)));
        await world.AssertSoundAsync(point);
        for (var day = 0; day < 12; day++)
        {
            ((SetClock)world.Clock).Pass(TimeSpan.FromHours(25));
            await world.Repository.CollectAsync(new CollectionOptions(), Token);
        }
        Assert.DoesNotContain(key, await world.KeysAsync(ObjectKeys.PacksPrefix));
        await world.AssertSoundAsync(point);
        await CollectionTests.AssertCountsAsync(world);
    }

    /// <summary>A store that is gone is not many damaged packs.</summary>
    [Fact]
    public async Task AStoreThatIsGoneDamagesNothing()
    {
        await using var world = await World.CreateAsync(_store, SmallPacks);
        await world.BackUpAsync(world.NewMachine(1).Point(1, Disk));
        _store.Fail = (_, _, _) => FaultReason.Unavailable;
        Assert.Equal(FaultReason.Unavailable, (await Assert.ThrowsAsync<FaultException>(async () => await world.ScrubAsync(open: true))).Reason);
        _store.Fail = null;
        ((SetClock)world.Clock).Pass(TimeSpan.FromHours(25));
        Assert.Equal(0, (await world.ScrubAsync(open: true)).DamageCount);
    }

    /// <summary>A point that cannot be looked at now does not keep others from being whole.</summary>
    [Fact]
    public async Task OneUnreadablePointDoesNotStopTheOthers()
    {
        await using var world = await World.CreateAsync(_store, SmallPacks);
        var points = new[] { world.NewMachine(1).Point(1, [.. Enumerable.Range(100, 30)]), world.NewMachine(2).Point(1, [.. Enumerable.Range(200, 30)]) };
        await world.BackUpAsync(points[0]);
        await world.BackUpAsync(points[1]);
        // An audit that cannot read a node ends the run that it belongs to: it is over.
        await world.Repository.CollectAsync(new CollectionOptions(), Token);
        await world.HurtAsync(Machine.ChunkId(110));
        await world.HurtAsync(Machine.ChunkId(210));
        await world.ScrubAsync(open: true);
        Assert.Equal(2, (await world.Repository.Upkeep.ListDamagedPointsAsync(Token)).Count);
        foreach (var (unreadable, healed) in new[] { (points[0], points[1]), (points[1], points[0]) })
        {
            var (map, _, _) = await world.FindPackAsync(unreadable.Root);
            _store.Fail = (key, _, _) => key == map ? FaultReason.Unavailable : null;
            await world.Repository.Upkeep.HealAsync([new MemorySource(healed.Chunks)], new HashOpener(), Token);
            await world.AssertReadableAsync(healed);
            Assert.True((await world.Repository.FindPointAsync(healed.Id, Token))!.IsComplete);
            if (!(await world.Repository.FindPointAsync(unreadable.Id, Token))!.IsComplete)
            {
                var loss = Assert.Single(await world.Repository.Upkeep.FindLossesAsync(unreadable.Id, Token));
                Assert.Equal((true, new ByteRange(0, 30 * 4096)), (loss.IsDoubtful, loss.Range.Range));
            }
            await world.Repository.CollectAsync(new CollectionOptions(), Token);
            _store.Fail = null;
        }
        await world.AssertSoundAsync(points);
    }

    /// <summary>Points that lack something are walked again when something has changed, and not every few minutes.</summary>
    [Fact]
    public async Task NothingIsLookedAtAgainWithoutReason()
    {
        await using var world = await World.CreateAsync(_store, SmallPacks);
        var point = world.NewMachine(1).Point(1, Disk);
        await world.BackUpAsync(point);
        await world.HurtAsync(Machine.ChunkId(7));
        await world.ScrubAsync(open: true);
        await world.Repository.Upkeep.SettleAsync(Token);
        var reads = 0;
        _store.BeforeRead = _ =>
        {
            reads++;
            return Task.CompletedTask;
        };
        await world.Repository.Upkeep.SettleAsync(Token);
        Assert.Equal(0, reads);
        ((SetClock)world.Clock).Pass(TimeSpan.FromHours(1));
        await world.Repository.Upkeep.SettleAsync(Token);
        Assert.True(reads > 0);
        _store.BeforeRead = null;
        await world.ReadInFullAsync(point.Machine.Point(2, Disk));
        await world.AssertSoundAsync(point);
    }

    /// <summary>Finding the nodes above is done once for packs that are found damaged in one run.</summary>
    [Fact]
    public async Task ManyDamagedPacksAreRepairedTogether()
    {
        await using var world = await World.CreateAsync(_store, SmallPacks);
        var point = world.NewMachine(1).Point(1, Disk);
        await world.BackUpAsync(point);
        var (map, _, _) = await world.FindPackAsync(point.Root);
        var hurt = new HashSet<string>(StringComparer.Ordinal);
        for (var content = 1; content <= 60; content++)
        {
            if (!hurt.Contains((await world.FindPackAsync(Machine.ChunkId(content))).Key))
            {
                hurt.Add(await world.HurtAsync(Machine.ChunkId(content)));
            }
        }
        Assert.InRange(hurt.Count, 5, 16);
        var passes = 0;
        _store.AfterRead = (key, offset, bytes) =>
        {
            // Single nodes are much smaller.
            passes += key == map && offset == 0 && bytes.Length > 4000 ? 1 : 0;
            return Task.CompletedTask;
        };
        var report = await world.ScrubAsync(open: true);
        _store.AfterRead = null;
        Assert.Equal((hurt.Count, hurt.Count), (report.Findings.Count, (int)report.Findings.Sum(finding => finding.RecordsLost)));
        Assert.InRange(passes, 2, 6);
        Assert.Equal(hurt.Count, await world.ReadInFullAsync(point.Machine.Point(2, Disk)));
        await world.AssertSoundAsync(point);
        await CollectionTests.AssertCountsAsync(world);
    }

    /// <summary>A pack that reads right the second time only is not proven.</summary>
    [Fact]
    public async Task NothingIsProvenAgainstTheEvidence()
    {
        await using var world = await World.CreateAsync(_store);
        await world.BackUpAsync(world.NewMachine(1).Point(1, Disk));
        var (key, _, _) = await world.FindPackAsync(Machine.ChunkId(7));
        var passes = 0;
        _store.AfterRead = (read, offset, bytes) =>
        {
            if (read == key && offset == 0 && ++passes != 2)
            {
                bytes.Span[RecordHeader.Size + 40] ^= 1;
            }
            return Task.CompletedTask;
        };
        var began = world.Clock.GetUtcNow().ToUnixTimeMilliseconds();
        var report = await world.ScrubAsync(open: true);
        Assert.Equal(3, passes);
        Assert.Equal((key, 1L), (Assert.Single(report.Problems).ObjectKey, report.DamageCount));
        _store.AfterRead = null;
        Assert.Equal(0, (await world.Repository.Upkeep.ReadProofAsync(began, Token)).OldestMs);
        Assert.Equal(0, (await world.ScrubAsync(open: true)).DamageCount);
    }
}
