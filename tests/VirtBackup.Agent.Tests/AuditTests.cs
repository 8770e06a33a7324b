using System.Numerics;
using CsCheck;
using VirtBackup.Agent.Auditing;
using VirtBackup.Agent.Tests.Fakes;
using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Hypervisors;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Sealing;
using AuditOptions = VirtBackup.Agent.Auditing.AuditOptions;

namespace VirtBackup.Agent.Tests;

public sealed class AuditTests
{
    private static readonly MapShape Content = MapShape.Of(Chunker.ContentDefined, 12);
    private static readonly MapShape Fixed = MapShape.Of(Chunker.Fixed, 14);

    [Fact]
    public void Every_span_comes_once_and_in_an_order_of_its_key() => Gen.Select(Gen.Int[1, 700], Gen.ULong).Sample((count, seed) =>
    {
        var order = new SpanOrder(new Id32(seed, 7), count);
        var numbers = Enumerable.Range(0, count).Select(position => order.At(position)).ToList();
        Assert.Equal(Enumerable.Range(0, count).Select(number => (long)number), numbers.Order());
        var other = new SpanOrder(new Id32(seed + 1, 7), count);
        Assert.True(count < 20 || !numbers.SequenceEqual(Enumerable.Range(0, count).Select(position => other.At(position))));
    }, iter: 200);

    [Fact]
    public void The_probability_is_the_hypergeometric_one() => Gen.Select(Gen.Int[1, 400], Gen.Double[0, 1], Gen.Int[1, 120]).Sample((blocks, share, lost) =>
    {
        var audited = (int)(blocks * share);
        lost = Math.Min(lost, blocks);
        var exact = 1 - ((double)(Choose(blocks - audited, lost) * 1_000_000_000_000 / Choose(blocks, lost)) / 1e12);
        Assert.Equal(exact, new AuditStatistics { UnchangedBlocks = blocks, AuditedBlocks = audited }.DetectionOf(lost), 1e-9);
    });

    private static BigInteger Choose(int n, int k) => k > n ? 0 : Enumerable.Range(0, k).Aggregate(BigInteger.One, (product, i) => product * (n - i) / (i + 1));

    [Theory]
    [InlineData(Chunker.ContentDefined, 7)]
    [InlineData(Chunker.Fixed, 6)] // six spans are through a run earlier
    public async Task A_rotation_reads_every_byte_once(Chunker chunker, int runs)
    {
        byte[] content = [.. Rig.RandomBytes(3, 3_000_000), .. new byte[2_000_000], .. Rig.RandomBytes(4, 1_234_567)];
        using var rig = NewRig(chunker == Chunker.Fixed ? Fixed : Content, 7, content);
        await rig.BackupAsync();
        Assert.Null(AuditOf(rig));
        long audited = 0;
        for (var run = 1; run <= runs; run++)
        {
            await rig.BackupAsync();
            var audit = AuditOf(rig)!;
            Assert.Equal((ulong)audit.AuditedBytes, rig.Progress.ToMessage().BytesAudited);
            audited += audit.AuditedBytes;
            Assert.Equal((0, false, runs - run), (audit.Misses, audit.IsCut, audit.RunsLeft));
            Assert.Equal((content.Length + FakeDisk.Block - 1) / FakeDisk.Block, audit.UnchangedBlocks);
            Assert.InRange(audit.RotatedBytes - audited, 0, rig.Context.Tools.Shape.SpanBytes);
        }
        Assert.Equal(content.Length, audited);
        await rig.BackupAsync();
        Assert.Equal((1, runs - 1), (AuditOf(rig)!.RunsTaken, AuditOf(rig)!.RunsLeft));
    }

    [Fact]
    public async Task What_changed_is_not_audited_but_read()
    {
        using var rig = NewRig(Content, 1, Rig.RandomBytes(5, 4 << 20));
        await rig.BackupAsync();
        rig.Disk.Write(1 << 20, Rig.RandomBytes(6, 1 << 20));
        var next = await rig.BackupAsync();
        var audit = AuditOf(rig)!;
        Assert.Equal(48, audit.UnchangedBlocks);
        Assert.InRange(audit.AuditedBlocks, 46, 48);
        Assert.InRange(audit.AuditedBytes, (3 << 20) - (2 * Content.ChunkBytesMax), 3 << 20);
        Assert.InRange(next.BytesRead, 1UL << 20, (1UL << 20) + (128 << 10));
    }

    [Theory]
    [InlineData(Chunker.ContentDefined, 0, ReadReach.Everything)]
    [InlineData(Chunker.ContentDefined, 2_500_000, ReadReach.Everything)]
    [InlineData(Chunker.Fixed, 2_500_000, ReadReach.Everything)]
    [InlineData(Chunker.ContentDefined, 3_999_999, ReadReach.AskedRanges)]
    [InlineData(Chunker.Fixed, 700_000, ReadReach.AskedRanges)]
    public async Task A_lost_change_is_found_within_a_rotation_and_the_point_of_that_run_is_right(Chunker chunker, int place, ReadReach reach)
    {
        // The disk's middle is zeros.
        byte[] content = [.. Rig.RandomBytes(3, 2_000_000), .. new byte[1_000_000], .. Rig.RandomBytes(4, 1_000_000)];
        using var rig = NewRig(chunker == Chunker.Fixed ? Fixed : Content, 5, content, Rig.RandomBytes(9, 500_000));
        rig.Hypervisor.Reach = reach;
        await rig.BackupAsync();
        rig.Disk.Content[place] ^= 1;
        BackupResult result;
        var runs = 0;
        do
        {
            rig.Disk.Write(place > 2_000_000 ? 100 : 3_500_000, Rig.RandomBytes(runs, 1000));
            result = await rig.BackupAsync();
            runs++;
        }
        while (result.Disks[0].ChangedOnly && runs < 6);
        Assert.InRange(runs, 1, 5);
        Assert.Contains("audit", result.Disks[0].Reason, StringComparison.Ordinal);
        Assert.Equal(reach == ReadReach.Everything, result.Disks[1].ChangedOnly);
        Assert.Equal(1UL, rig.Progress.ToMessage().AuditMisses);
        Assert.Contains("disk0", AuditOf(rig)!.Miss, StringComparison.Ordinal);
        Assert.Contains(rig.Progress.TakeLog(), line => line.StartsWith("ALERT: ", StringComparison.Ordinal));
        await rig.RequireRestorableAsync(result.PointId);
        Assert.Equal(reach == ReadReach.Everything ? [] : new[] { "abandon" }, rig.Hypervisor.Ends.Where(end => end != "commit"));
        // The chain is trusted again, and a new rotation begins.
        var next = await rig.BackupAsync();
        Assert.True(next.Disks[0].ChangedOnly);
        Assert.Equal(0, AuditOf(rig)!.Misses);
        await rig.RequireRestorableAsync(next.PointId);
    }

    [Fact]
    public async Task A_run_that_fails_after_a_miss_leaves_the_full_read_to_the_next()
    {
        using var rig = NewRig(Content, 1, Rig.RandomBytes(3, 1 << 20));
        await rig.BackupAsync();
        rig.Disk.Content[700_000] ^= 1;
        rig.Hypervisor.OnRead = _ => rig.Progress.Phase == "reading" ? throw new FaultException(FaultReason.SnapshotLost, "lost") : Task.CompletedTask;
        await Assert.ThrowsAsync<FaultException>(() => rig.BackupAsync());
        Assert.Equal(1UL, rig.Progress.ToMessage().AuditMisses);
        rig.Hypervisor.OnRead = _ => Task.CompletedTask;
        var next = await rig.BackupAsync();
        Assert.False(next.Disks[0].ChangedOnly);
        Assert.Contains(rig.Progress.TakeLog(), line => line.Contains("missed a change", StringComparison.Ordinal));
        await rig.RequireRestorableAsync(next.PointId);
        Assert.True((await rig.BackupAsync()).Disks[0].ChangedOnly);
    }

    [Fact]
    public async Task What_the_time_limit_cuts_off_is_read_by_later_runs_and_the_pace_is_told()
    {
        var spans = 20;
        using var rig = NewRig(Content, 2, Rig.RandomBytes(3, (int)(spans * Content.SpanBytes)));
        rig.Share(rig.Context.Tools with { Audit = new AuditOptions(2, TimeSpan.FromTicks(1)) });
        await rig.BackupAsync();
        for (var run = 1; run <= spans; run++)
        {
            await rig.BackupAsync();
            var audit = AuditOf(rig)!;
            Assert.Equal((Content.SpanBytes, run, spans - run, run < spans), (audit.AuditedBytes, audit.RunsTaken, audit.RunsLeft, audit.IsCut));
        }
        // More time: what was left is made up for at once.
        await rig.BackupAsync();
        rig.Share(rig.Context.Tools with { Audit = new AuditOptions(2, TimeSpan.FromHours(1)) });
        await rig.BackupAsync();
        Assert.Equal(((spans - 1) * Content.SpanBytes, 0, false), (AuditOf(rig)!.AuditedBytes, AuditOf(rig)!.RunsLeft, AuditOf(rig)!.IsCut));
    }

    [Fact]
    public async Task The_job_may_say_how_much_is_audited()
    {
        using var rig = NewRig(Content, 30, Rig.RandomBytes(3, 1 << 20));
        await rig.BackupAsync();
        await rig.BackupAsync(new BackupOptions { Audit = new Protocol.Common.V1.AuditOptions { Off = true } });
        Assert.Null(AuditOf(rig));
        await rig.BackupAsync(new BackupOptions { Audit = new Protocol.Common.V1.AuditOptions { Runs = 1 } });
        Assert.Equal(1 << 20, AuditOf(rig)!.AuditedBytes);
    }

    [Fact]
    public async Task A_disk_that_lets_only_changes_be_read_is_told_of()
    {
        using var rig = NewRig(Content, 1, Rig.RandomBytes(3, 1 << 20));
        rig.Hypervisor.Reach = ReadReach.ListedExtents;
        await rig.BackupAsync();
        await rig.BackupAsync();
        Assert.Contains("disk0", AuditOf(rig)!.Omitted, StringComparison.Ordinal);
        Assert.Equal(0, AuditOf(rig)!.AuditedBytes);
    }

    [Fact]
    public async Task The_hypervisor_is_asked_to_keep_the_sample_readable()
    {
        using var rig = NewRig(Content, 4, Rig.RandomBytes(3, 4 << 20));
        rig.Hypervisor.Reach = ReadReach.AskedRanges;
        await rig.BackupAsync();
        var seen = new List<ByteRange>();
        for (var run = 0; run < 4; run++)
        {
            var reads = new List<long>();
            rig.Hypervisor.OnRead = offset =>
            {
                lock (reads)
                {
                    reads.Add(offset);
                }
                return Task.CompletedTask;
            };
            await rig.BackupAsync();
            var asked = rig.Hypervisor.LastRequest!.AlsoReadable[rig.Disk.Summary.Id];
            Assert.NotEmpty(reads);
            Assert.All(reads, offset => Assert.Contains(asked, range => range.Offset <= offset && offset < range.End));
            seen.AddRange(asked);
        }
        Assert.Equal(4 << 20, seen.DistinctBy(range => range.Offset).Sum(range => range.Length));
    }

    private static AuditStatistics? AuditOf(Rig rig) => ManifestSealing.Open(rig.Store.Points[^1], rig.Context.VmKeys.Get(rig.Hypervisor.Machine)).Audit;

    private static Rig NewRig(MapShape shape, int runs, params byte[][] disks)
    {
        var rig = new Rig(11, disks);
        rig.Hypervisor.Reach = ReadReach.Everything;
        rig.Share(rig.Context.Tools with { Shape = shape, Audit = new AuditOptions(runs, TimeSpan.FromHours(10)) });
        return rig;
    }
}
