using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Collection;
using VirtBackup.Repository.Tests.Fixtures;

namespace VirtBackup.Repository.Tests.Collection;

public sealed class CollectionTests
{
    internal static readonly RepositoryOptions SmallPacks = new() { PackBytesTarget = 30_000 };
    internal static readonly TimeSpan Day = TimeSpan.FromHours(25);

    private static CancellationToken Token => World.Token;

    [Fact]
    public async Task WhatNoPointNeedsLeavesTheStoreAndTheRestStays()
    {
        await using var world = await World.CreateAsync(options: SmallPacks);
        var machine = world.NewMachine(1);
        var disk = Enumerable.Range(1, 100).ToArray();
        var first = machine.Point(1, disk);
        await world.BackUpAsync(first);
        var second = machine.Point(2, [.. disk.Select(content => content > 10 ? content + 1000 : content)]);
        await world.BackUpAsync(second);
        var before = await StoredBytesAsync(world);
        await world.Repository.ForgetAsync(first.Id, Token);
        await CollectForDaysAsync(world, 12);
        await world.AssertReadableAsync(second);
        Assert.Empty((await world.VerifyAsync(open: true)).Damages);
        await AssertCountsAsync(world);
        // 10 of 190 chunks are shared, so nearly half goes.
        Assert.InRange(await StoredBytesAsync(world), 1, before * 55 / 100);
        await AssertNothingUnneededAsync(world, deadPercentMax: 30);
        Assert.Equal(FaultReason.NotFound, (await Assert.ThrowsAsync<FaultException>(async () => await world.Repository.RecallAsync(machine.Vm, first.Id, Token))).Reason);
    }

    [Fact]
    public async Task AForgottenPointKeepsEverythingForTheSafetyTime()
    {
        await using var world = await World.CreateAsync(options: SmallPacks);
        var point = world.NewMachine(1).Point(1, [.. Enumerable.Range(1, 60)]);
        await world.BackUpAsync(point);
        Clock(world).Pass(TimeSpan.FromDays(100));
        await world.Repository.ForgetAsync(point.Id, Token);
        Clock(world).Pass(TimeSpan.FromHours(23));
        for (var i = 0; i < 4; i++)
        {
            Assert.Equal(1, (await world.Repository.CollectAsync(new CollectionOptions(), Token)).PointsKept);
        }
        await AssertCountsAsync(world);
        await world.Repository.RecallAsync(point.Machine.Vm, point.Id, Token);
        await world.AssertReadableAsync(point);
        await CollectForDaysAsync(world, 12);
        await world.AssertReadableAsync(point);
    }

    [Fact]
    public async Task UnreferencedUploadsLiveSevenDays()
    {
        await using var world = await World.CreateAsync(options: SmallPacks);
        var point = world.NewMachine(1).Point(1, [1, 2, 3]);
        await using (var session = world.Begin())
        {
            await world.UploadAsync(session, point);
        }
        await CollectForDaysAsync(world, 6);
        Assert.NotEmpty(await world.KeysAsync(ObjectKeys.PacksPrefix));
        await using (var session = world.Begin())
        {
            await world.CommitAsync(session, point);
        }
        await CollectForDaysAsync(world, 12);
        await world.AssertReadableAsync(point);
        var other = world.NewMachine(2).Point(1, [11, 12, 13]);
        await using (var session = world.Begin())
        {
            await world.UploadAsync(session, other);
        }
        await CollectForDaysAsync(world, 12);
        await AssertNothingUnneededAsync(world, deadPercentMax: 0);
    }

    [Fact]
    public async Task APackThatIsSentAgainIsAsYoungAsItsLastSending()
    {
        await using var world = await World.CreateAsync(options: SmallPacks);
        var point = world.NewMachine(1).Point(1, [1, 2, 3]);
        await using (var session = world.Begin())
        {
            await world.UploadAsync(session, point);
        }
        Clock(world).Pass(TimeSpan.FromDays(30));
        await using (var session = world.Begin())
        {
            await world.UploadAsync(session, point);
        }
        await CollectForDaysAsync(world, 6);
        Assert.Equal([7], await World.ProbeAsync(world.Repository, RecordKind.Data, World.Scope, Ids(1, 2, 3)));
        // However long its session stays open.
        await using var patient = world.Begin();
        await world.UploadAsync(patient, point);
        await CollectForDaysAsync(world, 20);
        await world.CommitAsync(patient, point);
        await world.AssertReadableAsync(point);
        await AssertCountsAsync(world);
    }

    [Fact]
    public async Task WhatAProbeCalledPresentOutlivesItsPointWhileTheSessionIsOpen()
    {
        await using var world = await World.CreateAsync(options: SmallPacks);
        var machine = world.NewMachine(1);
        var first = machine.Point(1, [1, 2, 3, 4, 5, 6, 7, 8]);
        await world.BackUpAsync(first);
        Clock(world).Pass(TimeSpan.FromDays(30));
        await world.Repository.ForgetAsync(first.Id, Token);
        Clock(world).Pass(Day);
        await world.Repository.CollectAsync(new CollectionOptions(), Token);
        // Condemned by now, and called present all the same.
        await using var session = world.Begin();
        var other = world.NewMachine(2).Point(1, [1, 2, 30]);
        Assert.Equal([3], await world.Repository.ProbeAsync(RecordKind.Data, session, Ids(1, 2), Token));
        await CollectForDaysAsync(world, 12);
        Assert.Equal([0], await world.Repository.ProbeAsync(RecordKind.Data, session, Ids(5), Token));
        await world.Repository.PutKeyAsync(other.Machine.Key(1), Token);
        await World.SendAsync(session, RecordKind.Data, [other.Machine.DataRecord(30)]);
        await World.SendAsync(session, RecordKind.Map, other.Nodes);
        await world.CommitAsync(session, other);
        await CollectForDaysAsync(world, 12);
        await world.AssertReadableAsync(other);
        await AssertCountsAsync(world);
    }

    [Fact]
    public async Task AnUploadSavesACondemnedRecord()
    {
        await using var world = await World.CreateAsync(options: SmallPacks);
        var first = world.NewMachine(1).Point(1, [1, 2, 3]);
        await world.BackUpAsync(first);
        Clock(world).Pass(TimeSpan.FromDays(30));
        await world.Repository.ForgetAsync(first.Id, Token);
        Clock(world).Pass(Day);
        Assert.NotEqual(0, (await world.Repository.CollectAsync(new CollectionOptions(), Token)).RecordsCondemned);
        await using (var session = world.Begin())
        {
            await World.SendAsync(session, RecordKind.Data, [first.Machine.DataRecord(1)]);
        }
        await CollectForDaysAsync(world, 5);
        Assert.Equal([1], await World.ProbeAsync(world.Repository, RecordKind.Data, World.Scope, Ids(1)));
        Assert.Equal([0], await World.ProbeAsync(world.Repository, RecordKind.Data, World.Scope, Ids(2)));
    }

    [Fact]
    public async Task PointsInUseAreNotPurged()
    {
        await using var world = await World.CreateAsync(options: SmallPacks);
        var machine = world.NewMachine(1);
        var first = machine.Point(1, [.. Enumerable.Range(1, 40)]);
        var second = machine.Point(2, [.. Enumerable.Range(1, 39), 77]);
        await world.BackUpAsync(first);
        await using var session = world.Repository.BeginIngest(World.Scope, 1, first.Id);
        await world.Repository.ForgetAsync(first.Id, Token);
        await CollectForDaysAsync(world, 10);
        await world.UploadAsync(session, second);
        await world.CommitAsync(session, second);
        await session.DisposeAsync();
        await world.AssertReadableAsync(second);
        var hold = world.Repository.HoldPoint(first.Id);
        await CollectForDaysAsync(world, 10);
        await world.Repository.RecallAsync(machine.Vm, first.Id, Token);
        await world.AssertReadableAsync(first);
        hold.Dispose();
        await world.Repository.ForgetAsync(first.Id, Token);
        await CollectForDaysAsync(world, 10);
        Assert.Empty(await world.Repository.ListForgottenAsync(Token));
        await world.AssertReadableAsync(second);
        await AssertNothingUnneededAsync(world, deadPercentMax: 30);
    }

    [Fact]
    public async Task ALockedPointIsNotPurged()
    {
        await using var world = await World.CreateAsync(options: SmallPacks);
        var point = world.NewMachine(1).Point(1, [1, 2, 3]);
        await world.BackUpAsync(point);
        await world.Repository.ForgetAsync(point.Id, Token);
        var until = Clock(world).GetUtcNow().AddDays(20);
        await world.Store.PutAsync(ObjectKeys.Lock(point.Id, until.ToUnixTimeMilliseconds()), new byte[] { 1 }, Token);
        await CollectForDaysAsync(world, 10);
        Assert.Single(await world.Repository.ListForgottenAsync(Token));
        await CollectForDaysAsync(world, 20);
        Assert.Empty(await world.Repository.ListForgottenAsync(Token));
        await AssertNothingUnneededAsync(world, deadPercentMax: 0);
    }

    [Fact]
    public async Task AReaderThatPlannedItsReadsIsNotDisturbedByRepacking()
    {
        await using var world = await World.CreateAsync(options: SmallPacks);
        var machine = world.NewMachine(1);
        var disk = Enumerable.Range(1, 60).ToArray();
        var kept = machine.Point(1, [.. disk.Select(content => content % 2 == 0 ? content : 0)]);
        var all = machine.Point(2, disk);
        await world.BackUpAsync(all);
        await world.BackUpAsync(kept);
        var reader = await world.Repository.OpenPointAsync(kept.Id, Token);
        var slices = reader.ReadRecordsAsync(Machine.Stream, [new ByteRange(0, kept.Geometry.StreamLength)], Token).GetAsyncEnumerator(Token);
        Assert.True(await slices.MoveNextAsync());
        var read = new MemoryStream();
        read.Write(slices.Current.Memory.Span);
        slices.Current.Dispose();
        await world.Repository.ForgetAsync(all.Id, Token);
        var repacked = 0L;
        for (var i = 0; i < 12; i++)
        {
            Clock(world).Pass(Day);
            repacked += (await world.Repository.CollectAsync(new CollectionOptions(), Token)).PacksRepacked;
        }
        Assert.NotEqual(0, repacked);
        while (await slices.MoveNextAsync())
        {
            read.Write(slices.Current.Memory.Span);
            slices.Current.Dispose();
        }
        await slices.DisposeAsync();
        Assert.Equal(kept.Chunks.Sum(chunk => chunk.Length), read.Length);
        await world.AssertReadableAsync(kept);
        Assert.Empty((await world.VerifyAsync(open: true)).Damages);
        await AssertNothingUnneededAsync(world, deadPercentMax: 30);
        await using var rebuilt = await world.RebuildAsync(SmallPacks);
        await rebuilt.AssertReadableAsync(kept);
        await AssertCountsAsync(rebuilt);
    }

    [Fact]
    public async Task PacksThatLostLittleCostNothing()
    {
        await using var world = await World.CreateAsync(options: SmallPacks);
        var machine = world.NewMachine(1);
        // What goes with the first of two points is a tenth of its pack.
        var kept = new List<PointBytes>();
        for (var i = 0; i < 20; i++)
        {
            var disk = Enumerable.Range(i * 100, 42).Select(content => content + 1).ToArray();
            var gone = machine.Point(i * 2, disk);
            await world.BackUpAsync(gone);
            kept.Add(machine.Point((i * 2) + 1, [.. disk[..38], .. disk[..4]]));
            await world.BackUpAsync(kept[^1]);
            await world.Repository.ForgetAsync(gone.Id, Token);
        }
        await CollectForDaysAsync(world, 12);
        var littleDead = (await world.DumpAsync()).Select(line => line.Split(' ')).Count(parts => parts[0] == "pack" && Number(parts, "dead") > 0);
        Assert.InRange(littleDead, 10, int.MaxValue);
        var report = await world.Repository.CollectAsync(new CollectionOptions(), Token);
        Assert.Equal(0, report.RowsRead);
        Assert.Equal(0, report.PacksRepacked);
        // A stricter share finds them, and then none is left.
        Assert.InRange((await world.Repository.CollectAsync(new CollectionOptions { RepackDeadPercent = 1 }, Token)).PacksRepacked, littleDead / 2, littleDead);
        foreach (var point in kept)
        {
            await world.AssertReadableAsync(point);
        }
        await CollectForDaysAsync(world, 2);
        await AssertNothingUnneededAsync(world, deadPercentMax: 0);
    }

    [Fact]
    public async Task ADryRunTellsAndChangesNothing()
    {
        await using var world = await World.CreateAsync(options: SmallPacks);
        var first = world.NewMachine(1).Point(1, [.. Enumerable.Range(1, 30)]);
        await world.BackUpAsync(first);
        await world.Repository.ForgetAsync(first.Id, Token);
        Clock(world).Pass(TimeSpan.FromDays(30));
        var before = await world.DumpAsync();
        var report = await world.Repository.CollectAsync(new CollectionOptions { IsDryRun = true }, Token);
        Assert.Equal(1, report.PointsPurged);
        Assert.Equal(before, await world.DumpAsync());
        Assert.Equal(1, (await world.Repository.CollectAsync(new CollectionOptions(), Token)).PointsPurged);
    }

    [Fact]
    public async Task TimesThatAreTooShortAreRefused()
    {
        await using var world = await World.CreateAsync();
        var options = new CollectionOptions { Safety = new CollectionSafety { TrashedFor = TimeSpan.FromHours(23) } };
        Assert.Equal(FaultReason.InvalidArgument, (await Assert.ThrowsAsync<FaultException>(async () => await world.Repository.CollectAsync(options, Token))).Reason);
    }

    /// <summary>Days pass; on each the collector runs.</summary>
    internal static async Task CollectForDaysAsync(World world, int days)
    {
        for (var day = 0; day < days; day++)
        {
            Clock(world).Pass(Day);
            Assert.Empty((await world.Repository.CollectAsync(new CollectionOptions(), Token)).Problems);
        }
    }

    internal static async Task AssertCountsAsync(World world) => Assert.Equal((await Recount.TakeAsync(world)).Counts(), await Recount.CountsOfAsync(world));

    /// <summary>Everything that a point needs is counted at least as often as it is needed; nodes that wait for their release may add to it.</summary>
    internal static async Task AssertCountsCoverAsync(World world)
    {
        var counted = (await Recount.CountsOfAsync(world)).ToDictionary(NameOf, CountOf);
        foreach (var line in (await Recount.TakeAsync(world)).Counts())
        {
            Assert.True(counted.GetValueOrDefault(NameOf(line)) >= CountOf(line), line);
        }

        static string NameOf(string line) => line[..line.LastIndexOf(' ')];

        static long CountOf(string line) => long.Parse(line[(line.LastIndexOf('=') + 1)..], System.Globalization.CultureInfo.InvariantCulture);
    }

    /// <summary>No record is in the index that no point needs, and no pack is dead beyond that share.</summary>
    internal static async Task AssertNothingUnneededAsync(World world, int deadPercentMax)
    {
        var recount = await Recount.TakeAsync(world);
        foreach (var line in await world.DumpAsync())
        {
            var parts = line.Split(' ');
            if (parts[0] == "object")
            {
                Assert.True(recount.Needs(Enum.Parse<RecordKind>(parts[1]), Id32.Parse(parts[2])), line);
            }
            else if (parts[0] == "pack")
            {
                Assert.True(Number(parts, "dead-bytes") * 100 <= Number(parts, "bytes") * deadPercentMax, line);
            }
        }
        Assert.Equal((await world.DumpAsync()).Count(line => line.StartsWith("pack ", StringComparison.Ordinal)), (await world.KeysAsync(ObjectKeys.PacksPrefix)).Count);
    }

    internal static SetClock Clock(World world) => (SetClock)world.Clock;

    internal static byte[] Ids(params int[] contents) => [.. contents.SelectMany(content => Machine.ChunkId(content).ToArray())];

    private static long Number(string[] parts, string name) =>
        long.Parse(parts.First(part => part.StartsWith(name + "=", StringComparison.Ordinal))[(name.Length + 1)..], System.Globalization.CultureInfo.InvariantCulture);

    private static async Task<long> StoredBytesAsync(World world)
    {
        long bytes = 0;
        await foreach (var info in world.Store.ListAsync(ObjectKeys.PacksPrefix, Token))
        {
            bytes += info.Length;
        }
        return bytes;
    }
}
