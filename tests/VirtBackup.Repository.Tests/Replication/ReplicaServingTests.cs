using VirtBackup.Core;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Replication;
using VirtBackup.Repository.Tests.Fixtures;
using VirtBackup.Repository.Tests.Scrubbing;

namespace VirtBackup.Repository.Tests.Replication;

public sealed class ReplicaServingTests
{
    private static readonly int[] Disk = [.. Enumerable.Range(1, 20)];

    private static CancellationToken Token => World.Token;

    [Fact]
    public async Task AListingGoesOnWhereTheLastOneEnded()
    {
        await using var world = await Sites.CreateAsync(1);
        var (first, second) = (Sites.MachineOf(1, 1).Point(1, Disk), Sites.MachineOf(1, 2).Point(1, Disk));
        await world.BackUpAsync(first);
        var all = await ListAsync(world, null, default);
        Assert.Equal([first.Id], all.Points);
        Assert.Empty((await ListAsync(world, null, all.Next)).Points);
        var waiting = world.Repository.Serving.WaitAsync(all.Next, Token).AsTask();
        Assert.False(waiting.IsCompleted);
        await world.BackUpAsync(second);
        await waiting.WaitAsync(TimeSpan.FromSeconds(30), Token);
        var more = await ListAsync(world, null, all.Next);
        Assert.Equal([second.Id], more.Points);
        Assert.Equal([first.Id], (await ListAsync(world, new HashSet<Id16> { first.Machine.Vm }, default)).Points);
        // What was brought back is new to whoever saw it go.
        await world.Repository.ForgetAsync(first.Id, Token);
        Assert.Equal([second.Id], (await ListAsync(world, null, default)).Points);
        await world.Repository.RecallAsync(first.Machine.Vm, first.Id, Token);
        Assert.Equal([first.Id], (await ListAsync(world, null, more.Next)).Points);
        // A cursor is good for one opening.
        await using var again = await world.RestartAsync();
        await again.Repository.Serving.WaitAsync(more.Next, Token);
        Assert.Equal(2, (await ListAsync(again, null, more.Next)).Points.Count());
    }

    [Fact]
    public async Task OnlyWholeAndVisiblePointsAreServed()
    {
        await using var world = await Sites.CreateAsync(1);
        var point = Sites.MachineOf(1).Point(1, Disk);
        await world.BackUpAsync(point);
        await world.Repository.Serving.ReadPointAsync(point.Id, Token);
        await world.Repository.ForgetAsync(point.Id, Token);
        await RefusesAsync();
        await world.Repository.RecallAsync(point.Machine.Vm, point.Id, Token);
        await world.HurtAsync(Machine.ChunkId(3));
        await world.ScrubAsync(open: true);
        await RefusesAsync();

        async Task RefusesAsync()
        {
            Assert.Empty((await ListAsync(world, null, default)).Points);
            Assert.Equal(FaultReason.NotFound, (await Assert.ThrowsAsync<FaultException>(async () => await world.Repository.Serving.ReadPointAsync(point.Id, Token))).Reason);
            Assert.Equal(FaultReason.NotFound, (await Assert.ThrowsAsync<FaultException>(async () => await world.Repository.Serving.OpenAsync(point.Id, Token))).Reason);
        }
    }

    [Fact]
    public async Task NodesAreFoundWithoutTheirParentsAndOnlyBelowTheRoots()
    {
        await using var world = await Sites.CreateAsync(1);
        var machine = Sites.MachineOf(1);
        var (point, other) = (machine.Point(1, [.. Enumerable.Range(1, 300)]), machine.Point(2, [.. Enumerable.Range(1000, 300)]));
        await world.BackUpAsync(point);
        await world.BackUpAsync(other);
        var reader = await world.Repository.Serving.OpenAsync(point.Id, Token);
        List<Id32> ids = [.. point.Nodes.Select(node => RecordHeader.Parse(node).Id)];
        Assert.Equal(
            point.Nodes.Select(Convert.ToHexString), World.Split(await World.CollectAsync(reader.ReadNodesAsync(ids, Token))).Select(Convert.ToHexString));
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await World.CollectAsync(reader.ReadNodesAsync([RecordHeader.Parse(other.Nodes[0]).Id], Token)));
        Assert.Equal(FaultReason.Denied, fault.Reason);
    }

    [Fact]
    public async Task ARecordIsServedAsItIsStoredUnlessItIsDamaged()
    {
        await using var world = await Sites.CreateAsync(1);
        var point = Sites.MachineOf(1).Point(1, Disk);
        await world.BackUpAsync(point);
        var serving = world.Repository.Serving;
        var node = RecordHeader.Parse(point.Nodes[0]).Id;
        Assert.Equal(point.Machine.DataRecord(3), await serving.FindRecordAsync(RecordKind.Data, Machine.ChunkId(3), point.Machine.Scope, Token));
        Assert.Equal(point.Nodes[0], await serving.FindRecordAsync(RecordKind.Map, node, Id16.Empty, Token));
        Assert.Null(await serving.FindRecordAsync(RecordKind.Data, Machine.ChunkId(3), World.Scope, Token));
        Assert.Null(await serving.FindRecordAsync(RecordKind.Data, Machine.ChunkId(77), point.Machine.Scope, Token));
        await world.HurtAsync(node, payloadByte: 5);
        Assert.Null(await serving.FindRecordAsync(RecordKind.Map, node, Id16.Empty, Token));
        await world.HurtAsync(Machine.ChunkId(3));
        await world.ScrubAsync(open: true);
        Assert.Null(await serving.FindRecordAsync(RecordKind.Data, Machine.ChunkId(3), point.Machine.Scope, Token));
    }

    private static async Task<(IEnumerable<Id16> Points, ReplicaCursor Next)> ListAsync(World world, IReadOnlySet<Id16>? vms, ReplicaCursor after)
    {
        var listing = await world.Repository.Serving.ListAsync(vms, after, Token);
        return (listing.Points.Select(point => point.Point).ToList(), listing.Next);
    }
}
