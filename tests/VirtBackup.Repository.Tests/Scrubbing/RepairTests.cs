using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Tests.Collection;
using VirtBackup.Repository.Tests.Fixtures;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Repository.Tests.Scrubbing;

/// <summary>A repair must not lose or spoil what is sound, whatever else goes wrong meanwhile.</summary>
public sealed class RepairTests
{
    private static readonly RepositoryOptions SmallPacks = new() { PackBytesTarget = 30_000 };
    private static readonly int[] Disk = [.. Enumerable.Range(1, 60)];

    private static CancellationToken Token => World.Token;

    /// <summary>The entry of one machine does not open, that of another does.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task AnEntryThatDoesNotOpenSaysNothingAboutItsChunk(int denied)
    {
        await using var world = await World.CreateAsync(options: SmallPacks);
        var (first, second) = (world.NewMachine(1).Point(1, Disk), world.NewMachine(2).Point(1, Disk));
        await world.BackUpAsync(first);
        await world.BackUpAsync(second);
        await world.HurtAsync(Machine.ChunkId(7));
        var finding = Assert.Single((await world.ScrubAsync(new DenyingOpener(world.NewMachine(denied).Vm))).Findings);
        Assert.Equal((1L, 0L, true), (finding.RecordsLost, finding.RecordsDoubtful, finding.RecordsSaved > 3));
    }

    /// <summary>A device that errs between the proof and the copy must not get rubbish a new name.</summary>
    [Fact]
    public async Task WhatIsCopiedIsWhatWasProven()
    {
        var store = new HookedStore(new SimulatedStore());
        await using var world = await World.CreateAsync(store, SmallPacks);
        var point = world.NewMachine(1).Point(1, Disk);
        await world.BackUpAsync(point);
        var key = await world.HurtAsync(Machine.ChunkId(7));
        var (_, entry, _) = await world.FindPackAsync(Machine.ChunkId(8));
        var proven = false;
        store.AfterRead = (read, offset, bytes) => Spoil(proven && read == key, entry, offset, bytes);
        var packs = await world.KeysAsync(ObjectKeys.PacksPrefix);
        var report = await world.ScrubAsync(new WatchingOpener(id => proven |= id == Machine.ChunkId(8)));
        Assert.Empty(report.Findings);
        Assert.Equal(key, Assert.Single(report.Problems).ObjectKey);
        Assert.Equal(packs, await world.KeysAsync(ObjectKeys.PacksPrefix));
        store.AfterRead = null;
        Assert.Equal(1, Assert.Single((await world.ScrubAsync(open: true)).Findings).RecordsLost);
        Assert.Equal(1, await world.ReadInFullAsync(point.Machine.Point(2, Disk)));
        await world.AssertSoundAsync(point);
    }

    /// <summary>One bad read is not damage.</summary>
    [Theory]
    [InlineData(RecordKind.Data)]
    [InlineData(RecordKind.Map)]
    public async Task OneBadReadLosesNothing(RecordKind kind)
    {
        var store = new HookedStore(new SimulatedStore());
        await using var world = await World.CreateAsync(store, SmallPacks);
        var point = world.NewMachine(1).Point(1, Disk);
        await world.BackUpAsync(point);
        var hurt = kind == RecordKind.Data ? Machine.ChunkId(7) : RecordHeader.Parse(point.Nodes[0]).Id;
        var other = kind == RecordKind.Data ? Machine.ChunkId(8) : RecordHeader.Parse(point.Nodes[1]).Id;
        var key = await world.HurtAsync(hurt, payloadByte: 20);
        var (_, entry, _) = await world.FindPackAsync(other);
        // The header of a chunk is read once before the chunk is opened.
        var (reads, bad) = (0, kind == RecordKind.Data ? 2 : 1);
        store.AfterRead = (read, offset, bytes) =>
            Spoil(read == key && offset == entry.Offset && bytes.Length == entry.Header.RecordLength && ++reads == bad, entry, offset, bytes);
        var report = await world.ScrubAsync(open: true);
        Assert.True(reads >= bad);
        Assert.DoesNotContain(await world.DumpAsync(), line => line.Contains($"{other}", StringComparison.Ordinal) && line.Contains("quarantined", StringComparison.Ordinal));
        Assert.Equal(1, report.DamageCount);
        store.AfterRead = null;
        ((SetClock)world.Clock).Pass(TimeSpan.FromHours(1));
        await world.ScrubAsync(open: true);
        Assert.True(await world.ReadInFullAsync(point.Machine.Point(2, Disk)) <= 1);
        await world.AssertSoundAsync(point);
    }

    /// <summary>Two uploads find the same damaged pack in the way. What the first has put in its place must not go.</summary>
    [Fact]
    public async Task WhoComesLateDoesNotRemoveTheSoundPack()
    {
        string key;
        byte[] sound;
        await using (var twin = await World.CreateAsync())
        {
            await twin.BackUpAsync(twin.NewMachine(1).Point(1, Disk));
            (key, _, sound) = await twin.FindPackAsync(Machine.ChunkId(7));
        }
        var store = new HookedStore(new SimulatedStore());
        await using var world = await World.CreateAsync(store);
        var damaged = sound.ToArray();
        damaged[500] ^= 1;
        Assert.True(await store.PutAsync(key, damaged, Token));
        store.AfterRead = async (read, _, _) =>
        {
            if (read == key)
            {
                // The other one has removed it and stored its own, and has yet to tell the index.
                store.AfterRead = null;
                await world.ReplaceAsync(key, sound);
            }
        };
        await using var session = world.Begin();
        var lane = session.OpenLane(RecordKind.Data);
        var point = world.NewMachine(1).Point(1, Disk);
        foreach (var record in point.Chunks)
        {
            await lane.AppendAsync(record, Token);
        }
        Assert.Equal(FaultReason.Unavailable, (await Assert.ThrowsAsync<FaultException>(async () => await lane.FlushAsync(Token))).Reason);
        Assert.Equal(sound, await store.ReadAllAsync(key, Limits.PackBytesMax, Token));
        await world.BackUpAsync(point);
        await world.AssertSoundAsync(point);
    }

    /// <summary>While the only record of a repository's only pack of its kind is replaced, nobody is told that it is there.</summary>
    [Fact]
    public async Task AReplacementLetsNobodyBetween()
    {
        var store = new HookedStore(new SimulatedStore());
        await using var world = await World.CreateAsync(store);
        var point = world.NewMachine(1).Point(1, [900]);
        await world.BackUpAsync(point);
        var key = await SpoilFooterAsync(world, point.Root);
        Task<byte[]>? probe = null;
        var wasLet = false;
        store.AfterDelete = async deleted =>
        {
            if (deleted == key)
            {
                probe = World.ProbeAsync(world.Repository, RecordKind.Map, World.Scope, point.Root.ToArray()).AsTask();
                wasLet = await Task.WhenAny(probe, Task.Delay(TimeSpan.FromMilliseconds(300), Token)) == probe;
            }
        };
        Assert.Equal((0L, 0L, 1L), Assert.Single((await world.ScrubAsync(open: true)).Findings) is var found ? (found.RecordsLost, found.RecordsDoubtful, found.RecordsSaved) : default);
        Assert.NotNull(probe);
        await probe;
        Assert.False(wasLet);
        await world.AssertSoundAsync(point);
        Assert.Empty((await world.VerifyAsync(open: true)).Damages);
    }

    /// <summary>Where there is another record, the damaged pack stays until a pack of both is durable.</summary>
    [Fact]
    public async Task AnOnlyRecordIsSavedBesideAnother()
    {
        var store = new HookedStore(new SimulatedStore());
        await using var world = await World.CreateAsync(store, SmallPacks);
        var (point, small) = (world.NewMachine(1).Point(1, Disk), world.NewMachine(2).Point(1, [900]));
        await world.BackUpAsync(point);
        await world.BackUpAsync(small);
        await SpoilFooterAsync(world, Machine.ChunkId(900));
        await SpoilFooterAsync(world, small.Root);
        var deleted = new List<string>();
        store.AfterDelete = key =>
        {
            deleted.Add(key);
            return Task.CompletedTask;
        };
        var report = await world.ScrubAsync(open: true);
        Assert.Equal(2, report.Findings.Count);
        Assert.All(report.Findings, finding => Assert.Equal((0L, 0L, 1L), (finding.RecordsLost, finding.RecordsDoubtful, finding.RecordsSaved)));
        Assert.Empty(deleted);
        store.AfterDelete = null;
        await world.AssertSoundAsync(point, small);
        await CollectionTests.CollectForDaysAsync(world, 12);
        await world.AssertSoundAsync(point, small);
        Assert.Empty((await world.VerifyAsync(open: true)).Damages);
        await CollectionTests.AssertCountsAsync(world);
        await using var rebuilt = await world.RebuildAsync(SmallPacks);
        await rebuilt.AssertSoundAsync(point, small);
    }

    /// <summary>No room for a new pack: what is lost is taken out of use all the same, and what is sound stays.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task AFullDeviceKeepsNoDamageInUse(bool only)
    {
        var isFull = false;
        var store = new SimulatedStore(new SimulatedStoreOptions { Inject = operation => isFull && operation.Step == SimulatedStep.Write ? FaultReason.DeviceFull : null });
        await using var world = await World.CreateAsync(store, SmallPacks);
        var point = world.NewMachine(1).Point(1, only ? [900] : Disk);
        await world.BackUpAsync(point);
        var key = only ? await SpoilFooterAsync(world, point.Root) : await world.HurtAsync(Machine.ChunkId(7));
        isFull = true;
        var finding = Assert.Single((await world.ScrubAsync(open: true)).Findings);
        Assert.Equal((only ? 0L : 1L, 0L, 0L), (finding.RecordsLost, finding.RecordsDoubtful, finding.RecordsSaved));
        Assert.Contains(key, await world.KeysAsync(ObjectKeys.PacksPrefix));
        if (!only)
        {
            Assert.Equal([0b10], await World.ProbeAsync(world.Repository, RecordKind.Data, World.Scope, Machine.ChunkId(7).ToArray().Concat(Machine.ChunkId(8).ToArray()).ToArray()));
        }
        isFull = false;
        await world.ScrubAsync(open: true);
        await world.ReadInFullAsync(point.Machine.Point(2, point.Disk));
        await world.AssertSoundAsync(point);
        Assert.DoesNotContain((await world.VerifyAsync(open: true)).Damages, damage => damage.Affected.Count > 0);
    }

    /// <summary>Two packs hold the same chunk alone, both are in doubt, and an upload makes each go.</summary>
    [Fact]
    public async Task TwoDoubtfulCopiesAreGivenUpOneAfterTheOther()
    {
        await using var world = await World.CreateAsync();
        var point = world.NewMachine(1).Point(1, [900]);
        var again = point.Machine.DataRecord(900);
        again[RecordHeader.Size + 50] ^= 1;
        SHA256.HashData(again.AsSpan(0, again.Length - 16)).AsSpan(0, 16).CopyTo(again.AsSpan(again.Length - 16));
        await world.BackUpAsync(point);
        await using (var session = world.Begin())
        {
            await World.SendAsync(session, RecordKind.Data, [again]);
        }
        foreach (var key in await world.KeysAsync(ObjectKeys.PacksPrefix))
        {
            var pack = await world.Store.ReadAllAsync(key, Limits.PackBytesMax, Token);
            if (PackFooter.Parse(pack, pack.Length).Kind == RecordKind.Data)
            {
                pack[RecordHeader.Size + 10] ^= 1;
                await world.ReplaceAsync(key, pack);
            }
        }
        Assert.Equal(2, (await world.ScrubAsync(open: false)).Findings.Count);
        foreach (var record in new[] { again, point.Chunks.Single() })
        {
            await using var session = world.Begin();
            var lane = session.OpenLane(RecordKind.Data);
            await lane.AppendAsync(record, Token);
            Assert.Equal(FaultReason.Unavailable, (await Assert.ThrowsAsync<FaultException>(async () => await lane.FlushAsync(Token))).Reason);
        }
        Assert.Single(await world.DumpAsync(), line => line.StartsWith($"object Data {Machine.ChunkId(900)}", StringComparison.Ordinal));
        await world.ReadInFullAsync(point.Machine.Point(2, [900]));
        await world.AssertSoundAsync(point);
        await CollectionTests.AssertCountsAsync(world);
    }

    private static Task Spoil(bool now, PackEntry entry, long offset, Memory<byte> bytes)
    {
        var at = entry.Offset + RecordHeader.Size + 30 - offset;
        if (now && at >= 0 && at < bytes.Length)
        {
            bytes.Span[(int)at] ^= 8;
        }
        return Task.CompletedTask;
    }

    /// <summary>Its records stay as they are; the pack's key.</summary>
    private static async Task<string> SpoilFooterAsync(World world, Id32 id)
    {
        var (key, _, pack) = await world.FindPackAsync(id);
        pack[^10] ^= 1;
        await world.ReplaceAsync(key, pack);
        return key;
    }

    private sealed class DenyingOpener(Id16 denied) : IChunkOpener
    {
        private readonly HashOpener _opener = new();

        public ValueTask OpenAsync(Id16 vm, MapEntry entry, ReadOnlyMemory<byte> record, CancellationToken cancellationToken) =>
            vm == denied ? throw new FaultException(FaultReason.Denied, "The entry does not open.") : _opener.OpenAsync(vm, entry, record, cancellationToken);
    }

    private sealed class WatchingOpener(Action<Id32> watch) : IChunkOpener
    {
        private readonly HashOpener _opener = new();

        public async ValueTask OpenAsync(Id16 vm, MapEntry entry, ReadOnlyMemory<byte> record, CancellationToken cancellationToken)
        {
            await _opener.OpenAsync(vm, entry, record, cancellationToken);
            watch(entry.Id);
        }
    }
}
