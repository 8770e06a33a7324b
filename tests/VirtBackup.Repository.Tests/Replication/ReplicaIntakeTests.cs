using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Repository.Replication;
using VirtBackup.Repository.Tests.Fixtures;
using VirtBackup.Repository.Tests.Scrubbing;
using VirtBackup.Repository.Verification;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Repository.Tests.Replication;

public sealed class ReplicaIntakeTests
{
    private static readonly int[] Disk = [.. Enumerable.Range(1, 300)];

    private static CancellationToken Token => World.Token;

    [Fact]
    public async Task APulledPointIsHereAsItIsThere()
    {
        await using var there = await Sites.CreateAsync(1, Sites.SmallPacks);
        await using var here = await Sites.CreateAsync(2, Sites.SmallPacks);
        var point = Sites.MachineOf(1).Point(1, Disk, at => 1 + (at % 2), tail: 100);
        await there.BackUpAsync(point);
        var source = new PullSource(there.Repository);
        var told = new LastProgress();
        var report = await here.Repository.PullAsync(source, new ReplicaWish(point.Machine.Vm, point.Id), Sites.Options(told), Token);
        Assert.False(report.WasHere);
        Assert.Equal((source.SentBytes, point.Nodes.Count, 300, (300 * 4096) - 100, (300 * 4096) - 100, true),
            (report.Done.ReceivedBytes, report.Done.Nodes, report.Done.Records, report.Done.MissingBytes, report.Done.FetchedBytes, report.Done.IsMapKnown));
        Assert.Equal(report.Done with { ReceivedBytes = told.Value.ReceivedBytes }, told.Value);
        Assert.Equal(0, source.Held);
        Assert.Equal(Sites.UuidOf(1), (await here.Repository.FindPointAsync(point.Id, Token))!.Origin);
        await here.AssertWholeAsync(point);
        // Once more costs nothing.
        Assert.True((await here.PullAsync(source, point)).WasHere);
        Assert.Equal(1, source.PointCalls);
    }

    [Fact]
    public async Task WhatIsHereIsNotAskedFor()
    {
        await using var there = await Sites.CreateAsync(1);
        await using var here = await Sites.CreateAsync(2);
        var machine = Sites.MachineOf(1);
        var first = machine.Point(1, Disk);
        int[] changed = [.. Disk];
        changed[7] = 1007;
        // A chunk that stands elsewhere, too, and one that stands twice and is new.
        (changed[100], changed[200], changed[201]) = (7, 2000, 2000);
        var second = machine.Point(2, changed);
        await there.BackUpAsync(first);
        await there.BackUpAsync(second);
        await here.PullAsync(new PullSource(there.Repository), first);
        var source = new PullSource(there.Repository);
        var report = await here.PullAsync(source, second);
        Assert.Equal(2, report.Done.Records);
        // The root, and one inner node and one leaf for each change.
        var known = first.Nodes.Select(Convert.ToHexString).ToHashSet();
        Assert.Equal(second.Nodes.Count(node => !known.Contains(Convert.ToHexString(node))), report.Done.Nodes);
        await here.AssertWholeAsync(first, second);
    }

    [Fact]
    public async Task APointWithoutChangesCostsItsManifest()
    {
        await using var there = await Sites.CreateAsync(1);
        await using var here = await Sites.CreateAsync(2);
        var machine = Sites.MachineOf(1);
        PointBytes[] points = [machine.Point(1, Disk), machine.Point(2, Disk), machine.Point(3, new int[20])];
        var source = new PullSource(there.Repository);
        foreach (var point in points)
        {
            await there.BackUpAsync(point);
            await here.PullAsync(source, point);
        }
        Assert.Equal((3, 3, 1), (source.PointCalls, source.NodeCalls, source.RecordCalls));
        await here.AssertWholeAsync(points);
    }

    [Fact]
    public async Task ALargeMapIsPulledInManyCalls()
    {
        await using var there = await Sites.CreateAsync(1);
        await using var here = await Sites.CreateAsync(2);
        // The same leaf at many places, and the same node at two places of different lengths.
        int[] disk = [.. Enumerable.Range(1, 5000), .. Enumerable.Range(1, 1024), 5001, 5002, 5003, 5004, .. Enumerable.Range(1, 1024)];
        var point = Sites.MachineOf(1).Point(1, disk);
        await there.BackUpAsync(point);
        var source = new PullSource(there.Repository) { SliceBytes = 50_001 };
        var report = await here.PullAsync(source, point);
        Assert.Equal(5004, report.Done.Records);
        Assert.Equal(source.Taken.Count, source.Taken.Distinct().Count());
        Assert.InRange(source.RecordCalls, 2, 20);
        Assert.InRange(source.NodeCalls, 4, 20);
        await here.AssertWholeAsync(point);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task ACutPullGoesOnWhereItWas(int seed)
    {
        await using var there = await Sites.CreateAsync(1, Sites.SmallPacks);
        await using var here = await Sites.CreateAsync(2, Sites.SmallPacks);
        var point = Sites.MachineOf(1).Point(1, Disk);
        await there.BackUpAsync(point);
        var random = new Random(seed);
        var source = new PullSource(there.Repository);
        var cuts = 0;
        while (true)
        {
            var left = random.Next(1, 200);
            source.BeforeSlice = () => --left < 0 ? throw new FaultException(FaultReason.Unavailable, "The link is down.") : Task.CompletedTask;
            try
            {
                await here.PullAsync(source, point);
                break;
            }
            catch (FaultException fault)
            {
                Assert.Equal(FaultReason.Unavailable, fault.Reason);
                Assert.Contains("The link is down", fault.Message, StringComparison.Ordinal);
                Assert.Null(await here.Repository.FindPointAsync(point.Id, Token));
                Assert.Equal(0, source.Held);
                Assert.InRange(++cuts, 1, 1000);
            }
        }
        Assert.InRange(cuts, 1, 1000);
        Assert.Equal(source.Taken.Count, source.Taken.Distinct().Count());
        await here.AssertWholeAsync(point);
    }

    [Fact]
    public async Task ACancelledPullLeavesNothingVisible()
    {
        await using var there = await Sites.CreateAsync(1, Sites.SmallPacks);
        await using var here = await Sites.CreateAsync(2, Sites.SmallPacks);
        var point = Sites.MachineOf(1).Point(1, Disk);
        await there.BackUpAsync(point);
        using var stopping = CancellationTokenSource.CreateLinkedTokenSource(Token);
        var slices = 0;
        var source = new PullSource(there.Repository) { BeforeSlice = async () => await (++slices == 300 ? stopping.CancelAsync() : Task.CompletedTask) };
        await Assert.ThrowsAnyAsync<OperationCanceledException>(
            async () => await here.Repository.PullAsync(source, new ReplicaWish(point.Machine.Vm, point.Id), Sites.Options(), stopping.Token));
        Assert.Equal(0, source.Held);
        Assert.Empty(await here.Repository.ListPointsAsync(null, Token));
        source.BeforeSlice = null;
        await here.PullAsync(source, point);
        await here.AssertWholeAsync(point);
    }

    [Fact]
    public async Task PointsTravelOnInChainsAndBack()
    {
        await using var first = await Sites.CreateAsync(1);
        await using var second = await Sites.CreateAsync(2);
        await using var third = await Sites.CreateAsync(3);
        var machine = Sites.MachineOf(1);
        PointBytes[] points = [machine.Point(1, Disk), machine.Point(2, [.. Disk.Reverse()])];
        var own = Sites.MachineOf(2).Point(1, Disk);
        await second.BackUpAsync(own);
        foreach (var point in points)
        {
            await first.BackUpAsync(point);
            await second.PullAsync(new PullSource(first.Repository), point);
            await third.PullAsync(new PullSource(second.Repository), point);
        }
        await third.PullAsync(new PullSource(second.Repository), own);
        // The first site is lost: a new one under its name gets everything back.
        await using var again = await Sites.CreateAsync(1);
        foreach (var point in points)
        {
            await again.PullAsync(new PullSource(third.Repository), point);
        }
        var next = machine.Point(3, [.. Disk.Skip(1), 999]);
        await again.BackUpAsync(next);
        // Failback in the other direction: only the difference.
        Assert.Equal(1, (await third.PullAsync(new PullSource(again.Repository), next)).Done.Records);
        await again.AssertWholeAsync([.. points, next]);
        await third.AssertWholeAsync([.. points, own, next]);
    }

    [Fact]
    public async Task WithoutItsPastAPointIsWhole()
    {
        await using var there = await Sites.CreateAsync(1);
        await using var here = await Sites.CreateAsync(2);
        var machine = Sites.MachineOf(1);
        var first = machine.Point(1, Disk);
        var second = machine.Point(2, [.. Disk.Skip(3), 1, 2, 3]);
        await there.BackUpAsync(first);
        var hash = Manifest.Parse(first.Manifest).Hash;
        var manifest = Machine.Seal(second.Head with { PreviousManifest = hash, BaseManifest = hash });
        await using (var session = there.Repository.BeginIngest(machine.Scope, 1))
        {
            await there.UploadAsync(session, second);
            await there.Repository.CommitAsync(
                session, manifest, second.Expectation with { PreviousManifest = hash, BaseManifest = hash }, Commits.KeylessLeafInspector.Instance, Token);
        }
        await here.PullAsync(new PullSource(there.Repository), second);
        Assert.Equal(hash, (await here.Repository.FindPointAsync(second.Id, Token))!.BaseManifest);
        Assert.Empty((await here.VerifyAsync(open: true)).Damages);
    }

    [Fact]
    public async Task AForgottenPointIsBroughtBackNotPulled()
    {
        await using var there = await Sites.CreateAsync(1);
        await using var here = await Sites.CreateAsync(2);
        var point = Sites.MachineOf(1).Point(1, Disk);
        await there.BackUpAsync(point);
        var source = new PullSource(there.Repository);
        await here.PullAsync(source, point);
        await here.Repository.ForgetAsync(point.Id, Token);
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await here.PullAsync(source, point));
        Assert.Equal(FaultReason.FailedPrecondition, fault.Reason);
        Assert.Equal(1, source.PointCalls);
        await here.Repository.RecallAsync(point.Machine.Vm, point.Id, Token);
        await here.AssertWholeAsync(point);
    }

    [Fact]
    public async Task ADamagedPointIsMadeWholeByPullingItAgain()
    {
        await using var there = await Sites.CreateAsync(1);
        await using var here = await Sites.CreateAsync(2);
        var point = Sites.MachineOf(1).Point(1, Disk);
        await there.BackUpAsync(point);
        await here.PullAsync(new PullSource(there.Repository), point);
        await here.HurtAsync(Machine.ChunkId(17));
        await here.HurtAsync(Format.Records.RecordHeader.Parse(point.Nodes[2]).Id, payloadByte: 10);
        await here.ScrubAsync(open: true);
        Assert.False((await here.Repository.FindPointAsync(point.Id, Token))!.IsComplete);
        Assert.Empty((await here.Repository.Serving.ListAsync(null, default, Token)).Points);
        var report = await here.PullAsync(new PullSource(there.Repository), point);
        // Without its leaf nobody can open the four chunks that it names: they are in doubt.
        Assert.Equal((true, 1 + 4, 1), (report.WasHere, report.Done.Records, report.Done.Nodes));
        await here.Repository.Upkeep.SettleAsync(Token);
        await here.AssertSoundAsync(point);
        Assert.Single((await here.Repository.Serving.ListAsync(null, default, Token)).Points);
    }

    [Fact]
    public async Task ADamagedPackInTheWayOfTheSoundOneCostsNoSecondPull()
    {
        await using var there = await Sites.CreateAsync(1);
        await using var here = await Sites.CreateAsync(2);
        // One node makes one pack, whose name is the same when it comes again.
        var point = Sites.MachineOf(1).Point(1, [1, 2, 3]);
        var node = Assert.Single(point.Nodes);
        await there.BackUpAsync(point);
        await here.PullAsync(new PullSource(there.Repository), point);
        await here.HurtAsync(Format.Records.RecordHeader.Parse(node).Id, payloadByte: 10);
        await here.ScrubAsync(open: true);
        Assert.False((await here.Repository.FindPointAsync(point.Id, Token))!.IsComplete);
        var report = await here.PullAsync(new PullSource(there.Repository), point);
        Assert.Equal((true, 1), (report.WasHere, report.Done.Nodes));
        await here.Repository.Upkeep.SettleAsync(Token);
        await here.AssertSoundAsync(point);
    }

    [Fact]
    public async Task WithoutItsKeysAForeignPointIsNeitherOpenedNorBlamed()
    {
        await using var there = await Sites.CreateAsync(1);
        await using var here = await Sites.CreateAsync(2);
        var (point, own) = (Sites.MachineOf(1).Point(1, Disk), Sites.MachineOf(2).Point(1, Disk));
        await there.BackUpAsync(point);
        await here.BackUpAsync(own);
        await here.PullAsync(new PullSource(there.Repository), point);
        var opener = new HashOpener(Sites.UuidOf(2));
        var report = await here.Repository.VerifyAsync(new VerificationOptions { Signatures = new HashSignatures(), Opener = opener }, Token);
        Assert.Empty(report.Damages);
        Assert.Equal(300, report.ChunksOpened);
        // Nobody can tell which of its chunks is damaged: all of that pack are in doubt, and come again.
        await here.HurtAsync(Machine.ChunkId(17), scope: point.Machine.Scope);
        await here.ScrubAsync(opener);
        Assert.False((await here.Repository.FindPointAsync(point.Id, Token))!.IsComplete);
        Assert.True((await here.Repository.FindPointAsync(own.Id, Token))!.IsComplete);
        Assert.Equal(300, (await here.PullAsync(new PullSource(there.Repository), point)).Done.Records);
        await here.Repository.Upkeep.SettleAsync(Token);
        await here.ScrubAsync(opener);
        Assert.True((await here.Repository.FindPointAsync(point.Id, Token))!.IsComplete);
        await here.AssertReadableAsync(point);
    }

    [Fact]
    public async Task ANodeThatCannotBeReadHereIsAskedForAgain()
    {
        await using var there = await Sites.CreateAsync(1);
        await using var here = await Sites.CreateAsync(2);
        var point = Sites.MachineOf(1).Point(1, Disk);
        await there.BackUpAsync(point);
        await using (var session = here.Repository.BeginIngest(point.Machine.Scope, 1))
        {
            await World.SendAsync(session, Format.Records.RecordKind.Map, point.Nodes);
        }
        await here.HurtAsync(Format.Records.RecordHeader.Parse(point.Nodes[2]).Id, payloadByte: 10);
        var report = await here.PullAsync(new PullSource(there.Repository), point);
        Assert.Equal((1, 300), (report.Done.Nodes, report.Done.Records));
        await here.AssertReadableAsync(point);
    }

    [Fact]
    public async Task ManyPullsAtTheSameTimeAgree()
    {
        await using var there = await Sites.CreateAsync(1, Sites.SmallPacks);
        await using var here = await Sites.CreateAsync(2, Sites.SmallPacks);
        PointBytes[] points = [.. Enumerable.Range(0, 6).Select(i => Sites.MachineOf(1, i).Point(1, [.. Enumerable.Range(1 + (i * 20), 200)]))];
        foreach (var point in points)
        {
            await there.BackUpAsync(point);
        }
        await Task.WhenAll(points.Concat(points).Select(async point => await here.PullAsync(new PullSource(there.Repository), point)));
        await here.AssertWholeAsync(points);
    }

    [Fact]
    public async Task APointThatWasGivenUpHereIsPulledAllTheSame()
    {
        var store = new SimulatedStore();
        await using var there = await Sites.CreateAsync(1);
        await using var here = await Sites.CreateAsync(2, store: store);
        var point = Sites.MachineOf(1).Point(1, Disk);
        await there.BackUpAsync(point);
        var tombstone = new AbortTombstone(point.Machine.Vm, point.Id, 1, 1).ToBytes();
        Assert.True(await store.PutAsync(Format.ObjectKeys.Manifest(point.Machine.Vm, point.Id), tombstone, Token));
        await here.PullAsync(new PullSource(there.Repository), point);
        await here.AssertWholeAsync(point);
    }

    private sealed class LastProgress : IProgress<ReplicaProgress>
    {
        public ReplicaProgress Value { get; private set; }

        public void Report(ReplicaProgress value) => Value = value;
    }
}
