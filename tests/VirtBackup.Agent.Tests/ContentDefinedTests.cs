using CsCheck;
using VirtBackup.Agent.Tests.Fakes;
using VirtBackup.Format.Maps;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Agent.Tests;

public sealed class ContentDefinedTests
{
    private static readonly MapShape Small = MapShape.Of(Chunker.ContentDefined, 12);

    /// <summary>Cutting anew only around changes gives the very map that cutting everything gives.</summary>
    [Fact]
    public void AnIncrementalRunCutsAsAFullOneWould() =>
        Gen.Select(Gen.Int[1, 1 << 20], Gen.Int[1, 1_500_000], Gen.Select(Gen.Double[0, 1], Gen.Int[1, 90_000], Gen.Int[0, 3]).Array[1, 8]).Sample(
            (seed, length, writes) => IncrementalAsync(seed, length, writes).GetAwaiter().GetResult(), iter: 40, threads: 1);

    private static async Task IncrementalAsync(int seed, int length, (double Place, int Length, int Kind)[] writes)
    {
        using var rig = NewRig(seed, Content(new Random(seed), length));
        var first = await rig.BackupAsync();
        await rig.RequireRestorableAsync(first.PointId);
        for (var round = 0; round < 2; round++)
        {
            foreach (var (place, count, kind) in writes.Skip(round * writes.Length / 2))
            {
                var offset = Math.Min((int)(place * length), length - 1);
                rig.Disk.Write(offset, Change(rig.Disk.Content, offset, Math.Min(count, length - offset), kind, seed + round));
            }
            var next = await rig.BackupAsync();
            Assert.All(next.Disks, static disk => Assert.True(disk.ChangedOnly));
            await rig.RequireRestorableAsync(next.PointId);
            var incremental = rig.Store.Points[^1].Head.Streams[0].Root;
            await rig.BackupAsync(new BackupOptions { Full = true });
            Assert.Equal(incremental, rig.Store.Points[^1].Head.Streams[0].Root);
        }
    }

    [Fact]
    public async Task ContentThatMovedIsFoundAgain()
    {
        var files = Rig.RandomBytes(5, 900_000);
        using var rig = NewRig(5, [.. files, .. new byte[100_000]], [.. Rig.RandomBytes(6, 4096 * 3), .. files]);
        await rig.BackupAsync();
        var stored = rig.Store.DataRecords.Distinct().Count();
        var average = (900_000.0 * 2) / rig.Store.Points[0].Head.Streams.Sum(stream => new FakeWalk(rig.Store.Nodes).Entries(stream).Count(entry => !entry.Entry.IsZero));
        Assert.InRange(average, 2500, 7000);
        // Nearly all chunks of the second disk are the first one's: new are those at span ends, which stay where they are.
        Assert.InRange(stored, 1, (int)(900_000 / average * 1.35));
    }

    [Fact]
    public async Task OnlyAFewChunksAroundAChangeAreReadAndSent()
    {
        using var rig = NewRig(7, Rig.RandomBytes(7, 4 << 20));
        await rig.BackupAsync();
        var sent = rig.Store.DataRecords.Count;
        rig.Disk.Write(2 << 20, [1, 2, 3]);
        var next = await rig.BackupAsync();
        // The change is told in blocks of 64 KiB; beside it two chunks and what a cut looks ahead.
        Assert.InRange(next.BytesRead, 1UL, (64UL << 10) + (8UL * (ulong)Small.ChunkBytesMax));
        Assert.InRange(rig.Store.DataRecords.Count - sent, 1, 4);
    }

    [Fact]
    public async Task AnotherWayOfCuttingReadsEverythingOnceAndGoesOn()
    {
        using var rig = NewRig(8, Rig.RandomBytes(8, 700_000));
        rig.Share(rig.Context.Tools with { Shape = MapShape.Of(Chunker.Fixed, 12) });
        var old = await rig.BackupAsync();
        rig.Share(rig.Context.Tools with { Shape = Small });
        var first = await rig.BackupAsync();
        Assert.False(first.Disks[0].ChangedOnly);
        rig.Disk.Write(5000, [9]);
        var second = await rig.BackupAsync();
        Assert.True(second.Disks[0].ChangedOnly);
        await rig.RequireRestorableAsync(second.PointId);
        rig.Disk.Content[5000] = 0;
        Assert.Equal(Chunker.Fixed, rig.Store.Points[0].Head.Streams[0].Geometry.Shape.Chunker);
        Assert.NotEqual(old.PointId, first.PointId);
    }

    private static Rig NewRig(int seed, params byte[][] disks)
    {
        var rig = new Rig(seed, disks);
        rig.Share(rig.Context.Tools with { Shape = Small });
        return rig;
    }

    /// <summary>Noise, text, short and long runs of zeros, at pages and beside them.</summary>
    private static byte[] Content(Random random, int length)
    {
        var content = new byte[length];
        for (var at = 0; at < length;)
        {
            var count = Math.Min(length - at, random.Next(5) == 0 ? random.Next(1, 200_000) : random.Next(1, 30_000));
            Fill(random, content.AsSpan(at, count));
            at += count;
            if (random.Next(3) == 0)
            {
                at = Math.Min(length, (at + 4095) & ~4095);
            }
        }
        return content;
    }

    private static void Fill(Random random, Span<byte> part)
    {
        switch (random.Next(4))
        {
            case 0:
                part.Clear();
                break;
            case 1:
                for (var i = 0; i < part.Length; i++)
                {
                    part[i] = (byte)('a' + random.Next(3));
                }
                break;
            default:
                random.NextBytes(part);
                break;
        }
    }

    private static byte[] Change(byte[] content, int offset, int count, int kind, int seed)
    {
        var random = new Random(seed + offset);
        return kind switch
        {
            0 => new byte[count],
            1 => new[] { (byte)(content[offset] ^ 1) },
            2 => content.AsSpan((offset + count) / 2, Math.Min(count, content.Length - ((offset + count) / 2))).ToArray(),
            _ => Content(random, count),
        };
    }
}
