using CsCheck;
using VirtBackup.Agent.Capture;
using VirtBackup.Agent.Records;
using VirtBackup.Agent.Tests.Fakes;
using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Hypervisors;

namespace VirtBackup.Agent.Tests;

public sealed class MapAssemblerTests
{
    // Chunks and spans of 4 KiB: one leaf per chunk, so that a few MiB make three levels.
    private static readonly MapShape Shape = new(Chunker.Fixed, 12, 12);
    private static readonly MapShape Wide = new(Chunker.Fixed, 12, 14);

    [Fact]
    public void AnIncrementalMapEqualsAFullRebuild() =>
        Gen.Select(Gen.Int[1, 1 << 20], Gen.OneOf(Gen.Int[0, 4096], Gen.Int[0, 300_000], Gen.Int[0, 5000 * 4096]), Gen.Bool,
            Gen.Select(Gen.Double[0, 1], Gen.Int[1, 40_000]).Array[0, 12], Gen.Int[0, 3], Gen.Bool).Sample(
            (seed, length, wide, dirty, zeroOneIn, changedOnly) =>
                CheckAsync(seed, new MapGeometry(wide ? Wide : Shape, length), dirty, zeroOneIn, changedOnly).GetAwaiter().GetResult(), iter: 60, threads: 1);

    private static async Task CheckAsync(int seed, MapGeometry geometry, (double Place, int Length)[] dirty, int zeroOneIn, bool changedOnly)
    {
        using var rig = new Rig(seed);
        var random = new Random(seed);
        var chunks = (int)((geometry.StreamLength + 4095) / 4096);
        var entries = Enumerable.Range(0, chunks).Select(chunk => EntryAt(random, geometry, chunk, zeroOneIn)).ToArray();
        var (baseRoot, baseNodes) = await BuildAsync(rig, geometry, [new ByteRange(0, geometry.StreamLength)], entries, false, Id32.Zero, random);
        foreach (var (id, node) in baseNodes)
        {
            rig.Store.Nodes[id] = node;
        }
        var extents = Merge(dirty.Select(write => ((long)(write.Place * (geometry.StreamLength - 1)), write.Length)), geometry.StreamLength);
        foreach (var chunk in extents.SelectMany(extent => Enumerable.Range((int)(extent.Offset / 4096), (int)(((extent.End - 1) / 4096) - (extent.Offset / 4096) + 1))).Distinct())
        {
            entries[chunk] = random.Next(3) == 0 ? entries[chunk] : EntryAt(random, geometry, chunk, zeroOneIn);
        }
        var (root, nodes) = await BuildAsync(rig, geometry, changedOnly ? extents : [new ByteRange(0, geometry.StreamLength)], entries, changedOnly, baseRoot, random);
        var (expected, all) = Rebuild(geometry, entries);
        Assert.Equal(expected, root);
        Assert.Equal(all.Where(id => !baseNodes.ContainsKey(id)).Order(), nodes.Keys.Where(id => !baseNodes.ContainsKey(id)).Order());
        foreach (var (id, node) in nodes)
        {
            rig.Store.Nodes[id] = node;
        }
        var read = new FakeWalk(rig.Store.Nodes).Entries(geometry, root).Where(entry => !entry.Entry.IsZero).ToArray();
        Assert.Equal(entries.Where(entry => !entry.IsZero), read.Select(entry => entry.Entry));
    }

    private static async Task<(Id32 Root, Dictionary<Id32, byte[]> Nodes)> BuildAsync(
        Rig rig, MapGeometry geometry, IReadOnlyList<ByteRange> extents, MapEntry[] entries, bool changedOnly, Id32 baseRoot, Random random)
    {
        var nodes = new Dictionary<Id32, byte[]>();
        var source = baseRoot.IsZero ? null : new NodeSource(rig.Store, "job", 1, rig.NewId(), rig.Context.Tools.Time, rig.Context.Tools.Entropy);
        rig.Store.Faults.AnyPoint = true;
        var map = new MapAssembler(geometry, changedOnly, baseRoot, source, async (id, node, _) =>
        {
            await Task.Yield();
            lock (nodes)
            {
                nodes[id] = node;
            }
        });
        var run = new DiskRun(new ExtentsOnly(extents, changedOnly), Format.Manifests.StreamKind.Disk, geometry, map);
        var open = new List<(SpanRun Span, TouchedSpan Touched)>();
        var under = new List<Task>();
        if (geometry.StreamLength > 0)
        {
            await foreach (var group in SpanPlanner.PlanAsync(run.Source.ListExtentsAsync(default), geometry, default))
            {
                Assert.InRange(group.Count, 1, 64);
                var leaves = group.Select(span => span.Leaf).ToArray();
                var bases = await map.EnterAsync(leaves[0] / MapShape.Radix, leaves, default);
                open.AddRange(leaves.Select((leaf, i) => (new SpanRun(run, leaf, bases[i], group[i]), group[i])));
                // Any order of completion, some after the planner has gone on.
                while (open.Count > random.Next(100))
                {
                    under.Add(FinishOne());
                }
            }
            await map.FinishPlanningAsync(default);
            while (open.Count > 0)
            {
                under.Add(FinishOne());
            }
            await Task.WhenAll(under);
        }
        return (map.Root, nodes);

        async Task FinishOne()
        {
            var pick = random.Next(open.Count);
            var (span, touched) = open[pick];
            open.RemoveAt(pick);
            var done = false;
            for (var chunk = 0; chunk < span.ChunkCount; chunk++)
            {
                if (touched.IsTouched(chunk))
                {
                    Assert.False(done);
                    done = span.Set(chunk, entries[span.OffsetOf(chunk) / 4096]);
                }
            }
            Assert.True(done);
            await map.SetLeafAsync(span.Leaf, span.Build(new SortedSet<Id16>()), span.BaseId, default);
        }
    }

    /// <summary>The map made level by level, without anything clever.</summary>
    private static (Id32 Root, HashSet<Id32> Nodes) Rebuild(MapGeometry geometry, MapEntry[] entries)
    {
        var nodes = new HashSet<Id32>();
        if (geometry.StreamLength == 0)
        {
            return (Id32.Zero, nodes);
        }
        var perLeaf = (int)(geometry.Shape.SpanBytes / 4096);
        var level = entries.Chunk(perLeaf).Select((part, leaf) => IdOf(MapLeaf.Build(geometry.PlaceOf(0, leaf), part), nodes)).ToArray();
        for (var height = 1; height <= geometry.Height; height++)
        {
            level = [.. level.Chunk(MapShape.Radix).Select((part, index) => IdOf(MapInner.Build(geometry.PlaceOf(height, index), part), nodes))];
        }
        return (Assert.Single(level), nodes);
    }

    private static Id32 IdOf(byte[]? node, HashSet<Id32> nodes)
    {
        if (node is null)
        {
            return Id32.Zero;
        }
        var id = NodeId.Compute(node);
        nodes.Add(id);
        return id;
    }

    private static MapEntry EntryAt(Random random, MapGeometry geometry, int chunk, int zeroOneIn)
    {
        var length = (int)Math.Min(4096, geometry.StreamLength - (chunk * 4096L));
        // Whole regions are zero, so that subtrees are.
        return zeroOneIn == 1 || (zeroOneIn > 1 && (chunk / 200) % zeroOneIn == 0)
            ? MapEntry.Zeros(length)
            : new MapEntry(length, new Id32(0, (UInt128)random.NextInt64(1, 50)), new Id32(1, 1), new Id16((UInt128)random.Next(1, 3)));
    }

    private static List<ByteRange> Merge(IEnumerable<(long Offset, int Length)> writes, long length)
    {
        var merged = new List<ByteRange>();
        foreach (var (start, count) in writes.Where(_ => length > 0).OrderBy(write => write.Offset))
        {
            var offset = merged.Count > 0 ? Math.Max(start, merged[^1].End) : start;
            var end = Math.Min(length, start + count);
            if (end > offset)
            {
                merged.Add(new ByteRange(offset, end - offset));
            }
        }
        return merged;
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(10, 5)]
    [InlineData(-4096, 4096)]
    [InlineData(4096, 4097)]
    public async Task ExtentsOutsideTheDiskOrOutOfOrderAreRefused(long offset, long length)
    {
        var extents = new ByteRange[] { new(0, 16), new(offset, length) };
        var plan = SpanPlanner.PlanAsync(new ExtentsOnly(extents, false).ListExtentsAsync(default), new MapGeometry(Shape, 8192), default);
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await plan.CountAsync(TestContext.Current.CancellationToken));
        Assert.Equal(FaultReason.Malformed, fault.Reason);
    }

    private sealed class ExtentsOnly(IReadOnlyList<ByteRange> extents, bool changedOnly) : ICapturedDisk
    {
        public DiskSummary Disk => new(default, "disk", 0, "raw", null);
        public bool ChangedOnly => changedOnly;
        public string Reason => "";
        public string BaseToken => "";
        public IAsyncEnumerable<ByteRange> ListExtentsAsync(CancellationToken cancellationToken) => extents.ToAsyncEnumerable();
        public ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken) => throw new NotSupportedException();
    }
}
