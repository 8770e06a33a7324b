using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Collection;
using VirtBackup.Repository.Scrubbing;
using VirtBackup.Repository.Tests.Collection;
using VirtBackup.Repository.Tests.Fixtures;
using VirtBackup.Repository.Verification;

namespace VirtBackup.Repository.Tests.Scrubbing;

public sealed class QuarantineTests
{
    private static readonly RepositoryOptions SmallPacks = new() { PackBytesTarget = 30_000 };
    private static readonly int[] Disk = [.. Enumerable.Range(1, 90)];

    private static CancellationToken Token => World.Token;

    [Fact]
    public async Task ADamagedChunkIsTakenOutAloneAndTellsWhomItWasTakenFrom()
    {
        await using var world = await World.CreateAsync(options: SmallPacks);
        var machine = world.NewMachine(1);
        var (first, second, other) = (machine.Point(1, Disk), machine.Point(2, [.. Disk, 77, 500]), world.NewMachine(2).Point(1, [3, 4, 600]));
        await world.BackUpAsync(first);
        await world.BackUpAsync(second);
        await world.ReadInFullAsync(other);
        var counts = await Recount.CountsOfAsync(world);
        var key = await world.HurtAsync(Machine.ChunkId(7));
        var report = await world.ScrubAsync(open: true);
        var finding = Assert.Single(report.Findings);
        Assert.Equal((key, 1L, 0L, 0L), (finding.ObjectKey, finding.RecordsLost, finding.RecordsDoubtful, finding.RecordsCovered));
        Assert.True(finding.RecordsSaved > 3);
        // Row and count stay; nobody is told that it is there, and nothing above it is complete.
        Assert.Equal(counts, await Recount.CountsOfAsync(world));
        Assert.Contains(await world.DumpAsync(), line => line.StartsWith($"object Data {Machine.ChunkId(7)} scope={World.Scope} quarantined count=", StringComparison.Ordinal));
        Assert.Equal([0b10], await World.ProbeAsync(world.Repository, RecordKind.Data, World.Scope, Ids(7, 8)));
        Assert.Equal([0b100], await World.ProbeAsync(world.Repository, RecordKind.Map, World.Scope, new[] { first.Root, second.Root, other.Root }.SelectMany(id => id.ToArray()).ToArray()));
        // What is lost is named exactly, and the rest can be restored.
        foreach (var point in new[] { first, second })
        {
            var lost = Assert.Single(await world.Repository.Upkeep.FindLossesAsync(point.Id, Token));
            Assert.Equal(new AffectedRange(machine.Vm, point.Id, Machine.Stream, new ByteRange(6 * 4096, 4096)), lost.Range);
            Assert.Equal((false, key), (lost.IsDoubtful, ObjectKeys.Pack(lost.Pack)));
            Assert.False((await world.Repository.FindPointAsync(point.Id, Token))!.IsComplete);
            var reader = await world.Repository.OpenPointAsync(point.Id, Token);
            var fault = await Assert.ThrowsAsync<FaultException>(async () => await World.ReadAsync(reader, [new ByteRange(0, 8 * 4096)]));
            Assert.Equal(FaultReason.Corrupt, fault.Reason);
            Assert.Contains(point.Id.ToString(), fault.Message);
            Assert.Equal(83, (await World.ReadAsync(reader, [new ByteRange(0, 6 * 4096), new ByteRange(7 * 4096, 77 * 4096)])).Count);
        }
        await AssertSoundAloneAsync(world, other);
        var damage = Assert.Single(await world.Repository.Upkeep.ListDamagesAsync(Token));
        Assert.Equal((key, 1L, 1L, 0L), (damage.ObjectKey, damage.Records, damage.RecordsLost, damage.HealedMs));
        // The packs are sound now: the next scrub finds nothing.
        Assert.Equal(0, (await world.ScrubAsync(open: true)).DamageCount);
        // A machine that still has the block heals it for all, and sends nothing else.
        var healed = new List<HealedRecord>();
        world.Repository.Upkeep.Healed = healed.AddRange;
        Assert.Equal(1, await world.ReadInFullAsync(machine.Point(3, Disk)));
        Assert.Equal([new HealedRecord(RecordKind.Data, Machine.ChunkId(7), World.Scope)], healed);
        await world.AssertSoundAsync(first, second, other);
        Assert.True((await world.VerifyAsync(open: true)).Damages.All(found => found.Affected.Count == 0));
    }

    /// <summary>Bytes of every kind of place flip; whatever it is, it is found, nothing sound is lost, and a full backup heals it.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task WhateverFlipsAFullBackupHeals(bool open)
    {
        for (var round = 0; round < 20; round++)
        {
            await using var world = await World.CreateAsync(options: new RepositoryOptions { PackBytesTarget = round % 2 == 0 ? 30_000 : 1 << 20 });
            var machine = world.NewMachine(1);
            var point = machine.Point(1, round % 5 == 0 ? [1] : Disk);
            await world.BackUpAsync(point);
            var random = new Random(round);
            var packs = await world.KeysAsync(ObjectKeys.PacksPrefix);
            var key = packs[random.Next(packs.Count)];
            var bytes = await world.Store.ReadAllAsync(key, Limits.PackBytesMax, Token);
            var footer = PackFooter.Parse(bytes, bytes.Length);
            var kind = footer.Kind;
            var records = (int)footer.Trailer.FooterOffset;
            switch (round % 4)
            {
                case 0:
                    bytes[random.Next(records, bytes.Length)] ^= 1;
                    break;
                case 1:
                    bytes[random.Next(records)] ^= 1;
                    break;
                case 2:
                    bytes[footer.Entries[random.Next(footer.Entries.Length)].Offset + random.Next(RecordHeader.Size)] ^= 1;
                    break;
                default:
                    bytes = bytes[..random.Next(1, bytes.Length)];
                    break;
            }
            await world.ReplaceAsync(key, bytes);
            var counts = await Recount.CountsOfAsync(world);
            var report = await world.ScrubAsync(open);
            Assert.Equal(1, report.DamageCount);
            var finding = Assert.Single(report.Findings);
            if (round % 4 == 0 && (open || kind == RecordKind.Map))
            {
                // Only the table of contents was hurt.
                Assert.Equal((0L, 0L), (finding.RecordsLost, finding.RecordsDoubtful));
                await world.AssertSoundAsync(point);
            }
            Assert.Equal(counts, await Recount.CountsOfAsync(world));
            var next = machine.Point(2, point.Disk);
            await world.ReadInFullAsync(next);
            await world.AssertSoundAsync(point, next);
            await world.ScrubAsync(open);
            await CollectAsync(world, 12);
            await world.AssertSoundAsync(point, next);
            Assert.Empty((await world.VerifyAsync(open: true)).Damages);
            await CollectionTests.AssertCountsAsync(world);
            await using var rebuilt = await world.RebuildAsync(SmallPacks);
            await rebuilt.AssertSoundAsync(point, next);
        }
    }

    [Theory]
    [InlineData(RecordKind.Data)]
    [InlineData(RecordKind.Map)]
    public async Task AMissingPackIsHealedToo(RecordKind kind)
    {
        await using var world = await World.CreateAsync();
        var machine = world.NewMachine(1);
        var point = machine.Point(1, Disk);
        await world.BackUpAsync(point);
        var (key, _, _) = await world.FindPackAsync(kind == RecordKind.Data ? Machine.ChunkId(1) : point.Root);
        await world.Store.DeleteAsync(key, Token);
        Assert.Equal(kind == RecordKind.Data ? 90 : point.Nodes.Count, Assert.Single((await world.ScrubAsync(open: true)).Findings).RecordsLost);
        Assert.Equal([new AffectedRange(machine.Vm, point.Id, Machine.Stream, new ByteRange(0, 90 * 4096))], (await world.Repository.Upkeep.FindLossesAsync(point.Id, Token)).Select(loss => loss.Range));
        // The index knows: a restart does not make it anew.
        await using var restarted = await world.RestartAsync();
        Assert.False(restarted.Repository.OpenReport.Rebuilt);
        var next = machine.Point(2, Disk);
        await restarted.ReadInFullAsync(next);
        await restarted.AssertSoundAsync(point, next);
    }

    [Theory]
    [InlineData(RecordKind.Data)]
    [InlineData(RecordKind.Map)]
    public async Task APackThatIsGoneAtTheStartIsNamedAndHealed(RecordKind kind)
    {
        await using var world = await World.CreateAsync();
        var machine = world.NewMachine(1);
        var point = machine.Point(1, Disk);
        await world.BackUpAsync(point);
        var (key, _, _) = await world.FindPackAsync(kind == RecordKind.Data ? Machine.ChunkId(1) : point.Root);
        await world.Store.DeleteAsync(key, Token);
        await using var restarted = await world.RestartAsync();
        Assert.False(restarted.Repository.OpenReport.Rebuilt);
        Assert.Equal([key], restarted.Repository.OpenReport.Problems.Select(static problem => problem.ObjectKey));
        Assert.Equal((key, kind == RecordKind.Data ? 90L : point.Nodes.Count), Assert.Single(await restarted.Repository.Upkeep.ListDamagesAsync(Token)) is var damage ? (damage.ObjectKey, damage.RecordsLost) : default);
        Assert.Equal([new AffectedRange(machine.Vm, point.Id, Machine.Stream, new ByteRange(0, 90 * 4096))], (await restarted.Repository.Upkeep.FindLossesAsync(point.Id, Token)).Select(loss => loss.Range));
        Assert.Equal([0], await World.ProbeAsync(restarted.Repository, kind, World.Scope, (kind == RecordKind.Data ? Machine.ChunkId(1) : point.Root).ToArray()));
        // It is said once.
        await using var again = await restarted.RestartAsync();
        Assert.Empty(again.Repository.OpenReport.Problems);
        var next = machine.Point(2, Disk);
        await again.ReadInFullAsync(next);
        await again.AssertSoundAsync(point, next);
    }

    /// <summary>Without keys nobody can tell which chunk it is: all stay readable, none is relied on.</summary>
    [Fact]
    public async Task WithoutKeysTheWholePackIsInDoubt()
    {
        await using var world = await World.CreateAsync();
        var machine = world.NewMachine(1);
        var point = machine.Point(1, Disk);
        await world.BackUpAsync(point);
        var key = await world.HurtAsync(Machine.ChunkId(7));
        var finding = Assert.Single((await world.ScrubAsync(open: false)).Findings);
        Assert.Equal((0L, 90L), (finding.RecordsLost, finding.RecordsDoubtful));
        Assert.Equal([0], await World.ProbeAsync(world.Repository, RecordKind.Data, World.Scope, Ids(7, 8)));
        Assert.True(Assert.Single(await world.Repository.Upkeep.FindLossesAsync(point.Id, Token)).IsDoubtful);
        var reader = await world.Repository.OpenPointAsync(point.Id, Token);
        Assert.Equal(90, (await World.ReadAsync(reader, [new ByteRange(0, 90 * 4096)])).Count);
        await CollectAsync(world, 12, AllowProblems: true);
        Assert.Equal(90, (await World.ReadAsync(reader, [new ByteRange(0, 90 * 4096)])).Count);
        // With keys only one of them is lost.
        Assert.Equal((1L, 0L, 89L), Assert.Single((await world.ScrubAsync(open: true)).Findings) is var opened ? (opened.RecordsLost, opened.RecordsDoubtful, opened.RecordsSaved) : default);
        Assert.Equal(1, await world.ReadInFullAsync(machine.Point(2, Disk)));
        await world.AssertSoundAsync(point);
        Assert.NotNull(key);
    }

    /// <summary>The pack's bytes come back as they were, from whoever keeps the disk: doubt is over.</summary>
    [Fact]
    public async Task ADoubtThatWasNoneIsForgotten()
    {
        await using var world = await World.CreateAsync();
        var point = world.NewMachine(1).Point(1, Disk);
        await world.BackUpAsync(point);
        var (key, _, sound) = await world.FindPackAsync(Machine.ChunkId(7));
        await world.HurtAsync(Machine.ChunkId(7));
        await world.ScrubAsync(open: false);
        await world.ReplaceAsync(key, sound);
        await world.ScrubAsync(open: false);
        Assert.Equal([point.Id], await world.Repository.Upkeep.SettleAsync(Token));
        await world.AssertSoundAsync(point);
        Assert.Empty((await world.VerifyAsync(open: true)).Damages);
    }

    [Fact]
    public async Task ASecondCopyIsUsedAtOnce()
    {
        await using var world = await World.CreateAsync();
        var point = world.NewMachine(1).Point(1, Disk);
        await world.BackUpAsync(point);
        await using (var session = world.Begin())
        {
            await World.SendAsync(session, RecordKind.Data, [point.Machine.DataRecord(999), .. point.Chunks]);
        }
        await world.HurtAsync(Machine.ChunkId(7));
        var finding = Assert.Single((await world.ScrubAsync(open: true)).Findings);
        Assert.Equal(0, finding.RecordsLost);
        Assert.Equal((89L, true), (finding.RecordsSaved, finding.RecordsCovered is 1 or 2));
        await world.AssertSoundAsync(point);
    }

    /// <summary>Nobody can say which entries name them: they stay as they are until the node is back.</summary>
    [Fact]
    public async Task ChunksBelowALostNodeAreNotTakenForLost()
    {
        await using var world = await World.CreateAsync(options: SmallPacks);
        var point = world.NewMachine(1).Point(1, Disk);
        await world.BackUpAsync(point);
        await world.HurtAsync(point.Root, payloadByte: 20);
        await world.ScrubAsync(open: true);
        await world.HurtAsync(Machine.ChunkId(7));
        var finding = Assert.Single((await world.ScrubAsync(open: true)).Findings);
        Assert.Equal((0L, true), (finding.RecordsLost, finding.RecordsDoubtful > 3));
        await world.Repository.Upkeep.HealAsync([new MemorySource(point.Nodes)], new HashOpener(), Token);
        // Now each can be opened.
        Assert.Equal(1, Assert.Single((await world.ScrubAsync(open: true)).Findings).RecordsLost);
        Assert.Equal(1, await world.ReadInFullAsync(point.Machine.Point(2, Disk)));
        await world.AssertSoundAsync(point);
    }

    /// <summary>A key object that is damaged says nothing about the chunks that it would open.</summary>
    [Fact]
    public async Task ADamagedKeyDamagesNoChunk()
    {
        await using var world = await World.CreateAsync();
        var machine = world.NewMachine(1);
        var point = machine.Point(1, Disk);
        await world.BackUpAsync(point);
        var vmKey = ObjectKeys.VmKey(machine.Vm, machine.Epoch(1), Machine.NameOf("recipient", 1));
        await world.ReplaceAsync(vmKey, new byte[233]);
        await world.HurtAsync(Machine.ChunkId(7));
        var finding = Assert.Single((await world.ScrubAsync(new LockedOpener())).Findings);
        Assert.Equal((0L, 90L), (finding.RecordsLost, finding.RecordsDoubtful));
    }

    /// <summary>A commit that proves its nodes while damage is taken out of use must not find them complete afterwards.</summary>
    [Fact]
    public async Task ACommitBesideARepairFindsWhatIsLost()
    {
        await using var world = await World.CreateAsync(options: SmallPacks);
        var machine = world.NewMachine(1);
        var (point, next) = (machine.Point(1, Disk), machine.Point(2, [.. Disk, 7, 7]));
        await world.BackUpAsync(point);
        await using var session = world.Begin();
        await World.SendAsync(session, RecordKind.Map, next.Nodes);
        await world.HurtAsync(Machine.ChunkId(7));
        Task? commit = null;
        var opener = new ReactingOpener(async () =>
        {
            // Marks are gone by now, and locations are not.
            commit ??= world.CommitAsync(session, next).AsTask();
            await Task.WhenAny(commit, Task.Delay(TimeSpan.FromMilliseconds(500), Token));
        });
        Assert.Equal(1, Assert.Single((await world.ScrubAsync(opener)).Findings).RecordsLost);
        Assert.Equal(FaultReason.Incomplete, (await Assert.ThrowsAsync<FaultException>(() => commit!)).Reason);
        await world.ReadInFullAsync(next);
        await world.AssertSoundAsync(point, next);
    }

    /// <summary>Nodes of a purged point answer probes until they are released: they must stop as well.</summary>
    [Fact]
    public async Task NodesThatNoPointReachesStopAnsweringToo()
    {
        await using var world = await World.CreateAsync(options: SmallPacks);
        var machine = world.NewMachine(1);
        var (point, gone) = (machine.Point(1, Disk), machine.Point(2, [.. Disk, .. Enumerable.Range(200, 200)]));
        await world.BackUpAsync(point);
        await world.BackUpAsync(gone);
        await world.Repository.ForgetAsync(gone.Id, Token);
        ((SetClock)world.Clock).Pass(TimeSpan.FromHours(25));
        await using (var holding = world.Begin())
        {
            Assert.Equal([1], await world.Repository.ProbeAsync(RecordKind.Map, holding, gone.Root.ToArray(), Token));
            Assert.Equal(1, (await world.Repository.CollectAsync(new CollectionOptions(), Token)).PointsPurged);
            await world.HurtAsync(Machine.ChunkId(300));
            await world.ScrubAsync(open: false);
            Assert.Equal([0], await world.Repository.ProbeAsync(RecordKind.Map, holding, gone.Root.ToArray(), Token));
            Assert.Equal(FaultReason.Incomplete, (await Assert.ThrowsAsync<FaultException>(async () => await world.CommitAsync(holding, machine.Point(3, gone.Disk)))).Reason);
        }
    }

    private static async Task CollectAsync(World world, int days, bool AllowProblems = false)
    {
        for (var day = 0; day < days; day++)
        {
            ((SetClock)world.Clock).Pass(TimeSpan.FromHours(25));
            var report = await world.Repository.CollectAsync(new CollectionOptions(), Token);
            Assert.True(AllowProblems || report.Problems.Count == 0, string.Join('\n', report.Problems));
        }
    }

    private static async Task AssertSoundAloneAsync(World world, PointBytes point)
    {
        Assert.True((await world.Repository.FindPointAsync(point.Id, Token))!.IsComplete);
        await world.AssertReadableAsync(point);
    }

    private static byte[] Ids(params int[] contents) => [.. contents.SelectMany(content => Machine.ChunkId(content).ToArray())];

    /// <summary>Opens, and lets something happen at the first chunk.</summary>
    private sealed class ReactingOpener(Func<Task> react) : IChunkOpener
    {
        private readonly HashOpener _opener = new();
        private bool _reacted;

        public async ValueTask OpenAsync(Id16 vm, Format.Maps.MapEntry entry, ReadOnlyMemory<byte> record, CancellationToken cancellationToken)
        {
            if (!_reacted)
            {
                _reacted = true;
                await react();
            }
            await _opener.OpenAsync(vm, entry, record, cancellationToken);
        }
    }
}
