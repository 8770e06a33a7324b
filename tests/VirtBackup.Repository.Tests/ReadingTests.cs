using CsCheck;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Tests.Fixtures;
using VirtBackup.Repository.Tests.Scrubbing;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Repository.Tests;

public sealed class ReadingTests
{
    private static readonly int[] Disk = [.. Enumerable.Range(1, 300).Select(at => at % 5 == 0 ? 0 : at % 40)];

    private static CancellationToken Token => World.Token;

    [Fact]
    public async Task ReadsExactlyTheRecordsThatTheRangesNeed()
    {
        await using var world = await World.CreateAsync(options: new RepositoryOptions { PackBytesTarget = 30_000, NodeCacheBytes = 4096 });
        var machine = world.NewMachine(1);
        await world.BackUpAsync(machine.Point(1, [.. Enumerable.Range(1, 30)]));
        var point = machine.Point(2, Disk, tail: 7);
        await world.BackUpAsync(point);
        var reader = await world.Repository.OpenPointAsync(point.Id, Token);
        Gen.Select(Gen.Long[0, point.Geometry.StreamLength - 1], Gen.Long[1, 200_000]).Array[0, 6].Sample(
            wanted =>
            {
                var ranges = Normalise(wanted, point.Geometry.StreamLength);
                var expected = Enumerable.Range(0, Disk.Length)
                    .Where(at => Disk[at] != 0 && ranges.Any(range => range.Offset < (at + 1) * 4096L && range.End > at * 4096L))
                    .Select(at => Machine.ChunkId(Disk[at])).Distinct().Order().ToArray();
                var read = World.ReadAsync(reader, ranges).AsTask().GetAwaiter().GetResult();
                Assert.Equal(expected, read.Select(record => RecordHeader.Parse(record).Id).Order());
                Assert.All(read, record => Assert.Contains(point.Chunks, chunk => chunk.AsSpan().SequenceEqual(record)));
            },
            iter: 150, threads: 1);
    }

    [Fact]
    public async Task TheLargestRecordsAreReadWhole()
    {
        await using var world = await World.CreateAsync();
        var shape = new MapShape(Chunker.Fixed, 22, 23);
        var machine = world.NewMachine(1);
        var records = new[] { 1, 2, 3 }.Select(content => machine.DataRecord(content, Limits.ChunkBytesMax)).ToArray();
        await using var session = world.Begin();
        await World.SendAsync(session, RecordKind.Data, records);
        var geometry = new MapGeometry(shape, 3L << 22);
        MapEntry Entry(int content) => new(1 << 22, Machine.ChunkId(content), Machine.ChunkId(-content), machine.Epoch(1));
        var left = MapLeaf.Build(geometry.PlaceOf(0, 0), [Entry(1), Entry(2)])!;
        var right = MapLeaf.Build(geometry.PlaceOf(0, 1), [Entry(3)])!;
        var root = MapInner.Build(geometry.Root, [NodeId.Compute(left), NodeId.Compute(right)])!;
        await World.SendAsync(session, RecordKind.Map, new[] { left, right, root }.Select(Machine.NodeRecord));
        await world.Repository.PutKeyAsync(machine.Key(1), Token);
        var template = machine.Point(1, [1]);
        var head = template.Head with { Streams = [template.Head.Streams[0] with { Geometry = geometry, Root = NodeId.Compute(root) }] };
        await world.Repository.CommitAsync(session, Machine.Seal(head), template.Expectation, Commits.KeylessLeafInspector.Instance, Token);
        var read = await World.ReadAsync(await world.Repository.OpenPointAsync(template.Id, Token), [new ByteRange(0, 3L << 22)]);
        Assert.Equal(records, read);
    }

    [Fact]
    public async Task ARecordThatMovedMeanwhileIsLookedUpOnceMore()
    {
        var store = new HookedStore(new SimulatedStore());
        await using var world = await World.CreateAsync(store);
        var point = world.NewMachine(1).Point(1, [1, 2, 3]);
        await world.BackUpAsync(point);
        var before = await world.KeysAsync(ObjectKeys.PacksPrefix);
        await using (var session = world.Begin())
        {
            await World.SendAsync(session, RecordKind.Data, point.Chunks.Reverse());
        }
        // The second copy is chosen, and goes when it is about to be read.
        var second = Assert.Single((await world.KeysAsync(ObjectKeys.PacksPrefix)).Except(before));
        var hasMoved = false;
        store.BeforeRead = async key =>
        {
            if (key == second)
            {
                hasMoved = true;
                await world.Index.WriteAsync(connection => connection.Execute(
                    "DELETE FROM object WHERE pack = (SELECT max(number) FROM pack); DELETE FROM pack WHERE number = (SELECT max(number) FROM pack)"), Token);
                await store.DeleteAsync(second, Token);
            }
        };
        await world.AssertReadableAsync(point);
        Assert.True(hasMoved);
    }

    [Fact]
    public async Task NodesAreServedFromTheRootDownOnly()
    {
        await using var world = await World.CreateAsync();
        var point = world.NewMachine(1).Point(1, Disk);
        await world.BackUpAsync(point);
        await world.BackUpAsync(world.NewMachine(2).Point(1, [900]));
        var reader = await world.Repository.OpenPointAsync(point.Id, Token);
        var nodes = point.Nodes.DistinctBy(record => RecordHeader.Parse(record).Id).ToDictionary(record => RecordHeader.Parse(record).Id);
        var served = new HashSet<Id32>();
        var frontier = new List<Id32> { point.Root };
        while (frontier.Count > 0)
        {
            var next = new List<Id32>();
            foreach (var record in World.Split(await World.CollectAsync(reader.ReadNodesAsync(frontier, Token))))
            {
                var id = RecordHeader.Parse(record).Id;
                Assert.Equal(nodes[id], record);
                served.Add(id);
                var node = record.AsMemory(RecordHeader.Size);
                if (MapNodeHead.Parse(node.Span).Kind == MapNodeKind.Inner)
                {
                    var inner = MapInner.Parse(node);
                    next.AddRange(Enumerable.Range(0, inner.Count).Select(at => inner[at]).Where(child => !child.IsZero && !served.Contains(child)));
                }
            }
            frontier = [.. next.Distinct()];
        }
        Assert.Equal(nodes.Keys.Order(), served.Order());
        var fresh = await world.Repository.OpenPointAsync(point.Id, Token);
        var foreign = world.NewMachine(2).Point(1, [900]).Root;
        foreach (var denied in new[] { foreign, served.First(id => id != point.Root) })
        {
            var fault = await Assert.ThrowsAsync<FaultException>(async () => await World.CollectAsync(fresh.ReadNodesAsync([denied], Token)));
            Assert.Equal(FaultReason.Denied, fault.Reason);
        }
    }

    [Fact]
    public async Task NodesThatLieTogetherAreReadTogetherAndADamagedOneIsNamed()
    {
        var store = new HookedStore(new SimulatedStore());
        await using var world = await World.CreateAsync(store);
        var point = world.NewMachine(1).Point(1, [.. Enumerable.Range(1, 200)]);
        await world.BackUpAsync(point);
        var reads = 0;
        store.BeforeRead = _ =>
        {
            reads++;
            return Task.CompletedTask;
        };
        var reader = await world.Repository.OpenPointAsync(point.Id, Token);
        reads = 0;
        Assert.Single(World.Split(await World.CollectAsync(reader.ReadNodesAsync([point.Root], Token))));
        var leaves = point.Nodes.Select(record => RecordHeader.Parse(record).Id).Where(id => id != point.Root).ToArray();
        Assert.Equal(leaves, World.Split(await World.CollectAsync(reader.ReadNodesAsync(leaves, Token))).Select(record => RecordHeader.Parse(record).Id));
        Assert.Equal(2, reads);
        await world.AssertReadableAsync(point);

        var (key, entry, pack) = await world.FindPackAsync(leaves[5]);
        pack[entry.Offset + RecordHeader.Size + 20] ^= 1;
        await world.ReplaceAsync(key, pack);
        var fresh = await world.Repository.OpenPointAsync(point.Id, Token);
        _ = await World.CollectAsync(fresh.ReadNodesAsync([point.Root], Token));
        Assert.Equal(5, World.Split(await World.CollectAsync(fresh.ReadNodesAsync(leaves[..5], Token))).Count);
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await World.CollectAsync(fresh.ReadNodesAsync(leaves, Token)));
        Assert.Equal(FaultReason.Corrupt, fault.Reason);
        Assert.Contains(leaves[5].ToString(), fault.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task BadRangesAreRefused()
    {
        await using var world = await World.CreateAsync();
        var point = world.NewMachine(1).Point(1, Disk);
        await world.BackUpAsync(point);
        var reader = await world.Repository.OpenPointAsync(point.Id, Token);
        foreach (var ranges in new ByteRange[][]
        {
            [new(0, 0)], [new(-1, 5)], [new(0, point.Geometry.StreamLength + 1)], [new(long.MaxValue, 1)], [new(0, 10), new(5, 10)], [new(10, 1), new(0, 1)],
        })
        {
            Assert.Equal(FaultReason.InvalidArgument, (await Assert.ThrowsAsync<FaultException>(async () => await World.ReadAsync(reader, ranges))).Reason);
        }
        Assert.Empty(await World.ReadAsync(reader, []));
    }

    private static ByteRange[] Normalise((long Offset, long Length)[] wanted, long end)
    {
        var ranges = new List<ByteRange>();
        foreach (var (offset, length) in wanted.OrderBy(range => range.Offset))
        {
            var start = ranges.Count == 0 ? offset : Math.Max(offset, ranges[^1].End);
            if (start < end)
            {
                ranges.Add(new ByteRange(start, Math.Min(length, end - start)));
            }
        }
        return [.. ranges];
    }
}
