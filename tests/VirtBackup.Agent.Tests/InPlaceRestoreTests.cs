using System.Text.Json;
using VirtBackup.Agent.Restore;
using VirtBackup.Agent.Restore.InPlace;
using VirtBackup.Agent.Tests.Fakes;
using VirtBackup.Core;
using VirtBackup.Hypervisors;

namespace VirtBackup.Agent.Tests;

public sealed class InPlaceRestoreTests
{
    private const int Chunk = 256 << 10;
    private const int Length = (40 * Chunk) + 4096;

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task DisksBecomeEqualToEitherPointAndOnlyWhatDiffersIsWritten(bool tracked)
    {
        for (var seed = 0; seed < 10; seed++)
        {
            var random = new Random(seed);
            using var rig = new Rig(seed, Content(random));
            var disk = rig.Disk;
            var first = (Point: (await rig.BackupAsync()).PointId, Content: disk.View);
            Change(disk, random);
            var second = (Point: (await rig.BackupAsync()).PointId, Content: disk.View);
            Change(disk, random);
            rig.Hypervisor.OffersTracking = tracked;
            foreach (var target in new[] { first, second, first })
            {
                var before = disk.View;
                var result = await rig.RestoreInPlaceAsync(target.Point);
                Assert.True(disk.Content.AsSpan().SequenceEqual(target.Content), $"Seed {seed}: the disk differs from the point.");
                var differing = DifferingChunkBytes(before, target.Content);
                Assert.InRange((long)result.BytesWritten, differing == 0 ? 0 : 1, differing);
                Assert.Equal((ulong)Length, result.BytesWritten + result.BytesSkipped);
                Assert.InRange((long)result.BytesCompared, differing, Length);
                if (tracked)
                {
                    // Neither the equal parts of both points nor what nobody wrote to is looked at.
                    Assert.True(result.BytesCompared < Length * 9 / 10, $"Seed {seed}: {result.BytesCompared} of {Length} bytes were compared.");
                    Assert.InRange(rig.Hypervisor.InPlace!.BytesRead, 0, (long)result.BytesCompared);
                }
            }
            // What was written in place is part of the next changed-blocks backup.
            var next = await rig.BackupAsync();
            Assert.True(next.Disks[0].ChangedOnly);
            await rig.RequireRestorableAsync(next.PointId);
            Assert.Equal(first.Content, (await rig.RestoreAsync(first.Point)).Content(disk.Summary.Id));
        }
    }

    [Fact]
    public async Task AnEqualDiskIsNotWrittenAndATrackedOneNotEvenRead()
    {
        using var rig = new Rig(1, Rig.RandomBytes(1, 8 * Chunk));
        var point = (await rig.BackupAsync()).PointId;
        var result = await rig.RestoreInPlaceAsync(point);
        Assert.Equal((0UL, (ulong)(8 * Chunk)), (result.BytesWritten, result.BytesCompared));
        rig.Hypervisor.OffersTracking = true;
        result = await rig.RestoreInPlaceAsync(point);
        Assert.Equal((0UL, 0UL, (ulong)(8 * Chunk)), (result.BytesWritten, result.BytesCompared, result.BytesSkipped));
        Assert.Equal(0, rig.Hypervisor.InPlace!.BytesRead);
    }

    [Fact]
    public async Task ARunThatBrokeOffIsFinishedByTheNext()
    {
        using var rig = new Rig(2, Rig.RandomBytes(2, 30 * Chunk));
        var wanted = rig.Disk.View;
        var point = (await rig.BackupAsync()).PointId;
        rig.Disk.Write(0, Rig.RandomBytes(3, 20 * Chunk));
        foreach (var tracked in new[] { true, false })
        {
            (rig.Hypervisor.OffersTracking, rig.Hypervisor.InPlaceWritesMax) = (tracked, 4);
            var broken = await Assert.ThrowsAsync<FaultException>(() => rig.RestoreInPlaceAsync(point));
            Assert.Equal(FaultReason.DeviceFull, broken.Reason);
            Assert.False(rig.Hypervisor.InPlace!.Completed);
        }
        rig.Hypervisor.InPlaceWritesMax = int.MaxValue;
        await rig.RestoreInPlaceAsync(point);
        Assert.True(rig.Disk.Content.AsSpan().SequenceEqual(wanted));
    }

    [Fact]
    public async Task ADiskThatThePointDoesNotHaveIsNamed()
    {
        using var rig = new Rig(4, Rig.RandomBytes(4, Chunk));
        var point = (await rig.BackupAsync()).PointId;
        var fault = await Assert.ThrowsAsync<FaultException>(() => rig.RestoreInPlaceAsync(point, "nosuch"));
        Assert.Equal(FaultReason.InvalidArgument, fault.Reason);
        Assert.Contains(rig.Disk.Summary.Name, fault.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task TheResultHoldsTheDifferencesOfTheDescriptions()
    {
        using var rig = new Rig(5, Rig.RandomBytes(5, Chunk));
        var result = await rig.RestoreInPlaceAsync((await rig.BackupAsync()).PointId);
        var difference = Assert.Single(result.Differences);
        Assert.Equal(("cpus", "2", "3"), (difference.Item, difference.Captured, difference.Recreated));
        Assert.Equal(1UL, result.DifferencesTotal);
    }

    [Fact]
    public async Task WhatAMachineKeepsBesideItsDisksTravelsWithThePoint()
    {
        using var rig = new Rig(6, Rig.RandomBytes(6, Chunk));
        MachineContent[] contents =
        [
            new(rig.NewId(), "vars", MachineContentKind.Nvram, Rig.RandomBytes(7, (2 * Chunk) + 5)),
            new(rig.NewId(), "tpm", MachineContentKind.Tpm, Rig.RandomBytes(8, 333)),
        ];
        rig.Hypervisor.Contents = contents;
        var backup = await rig.BackupAsync();
        Assert.Single(backup.Disks);
        var restored = await rig.RestoreAsync(backup.PointId);
        Assert.Single(restored.Disks);
        Assert.Equal(contents.OrderBy(content => content.Id).Select(Render), restored.Request.Contents.OrderBy(content => content.Id).Select(Render));

        // Unchanged, it costs nothing more; without it, a point has none.
        Assert.Equal(0UL, (await rig.BackupAsync()).BytesSent);
        rig.Hypervisor.Contents = [];
        Assert.Empty((await rig.RestoreAsync((await rig.BackupAsync()).PointId)).Request.Contents);

        static string Render(MachineContent content) => $"{content.Id} {content.Name} {content.Kind} {Convert.ToHexString(content.Bytes.Span)}";
    }

    [Fact]
    public void DescriptionsAreComparedMemberByMember()
    {
        var differences = DescriptionDifferences.Compare(
            Json("""{"name":"a","uuid":"1","disks":[{"id":"7","name":"root","path":"/a","format":"raw"},{"name":"gone","path":"/g"}],"options":["x","y","y"],"same":{"deep":[1,2]},"none":null}"""),
            Json("""{"name":"b","uuid":"1","disks":[{"name":"root","path":"/b","format":"raw"},{"name":"new","bytes":5}],"options":["y","z"],"same":{"deep":[2,1]}}"""));
        Assert.Equal(
            ["disks.gone.name|gone|", "disks.gone.path|/g|", "disks.new.bytes||5", "disks.new.name||new", "disks.root.path|/a|/b", "name|a|b", "options|x|z", "options|y|"],
            differences.Select(difference => $"{difference.Item}|{difference.Captured}|{difference.Recreated}"));
    }

    [Fact]
    public void ExtentsTellWhatTheyTouch()
    {
        var extents = new SortedExtents([new(10, 5), new(20, 10)]);
        Assert.False(extents.Touches(new(0, 10)));
        Assert.True(extents.Touches(new(14, 1)));
        Assert.False(extents.Touches(new(15, 5)));
        Assert.True(extents.Touches(new(15, 6)));
        Assert.False(extents.Touches(new(30, 100)));
        Assert.Equal([new(12, 3), new ByteRange(20, 5)], extents.Within(new(12, 13)));
        Assert.Throws<FaultException>(() => new SortedExtents([new(10, 5), new(14, 1)]));
    }

    // A third of it is zero.
    private static byte[] Content(Random random)
    {
        var content = new byte[Length];
        random.NextBytes(content);
        for (var i = 0; i < 4; i++)
        {
            var offset = random.Next(Length - (4 * Chunk));
            content.AsSpan(offset, 4 * Chunk).Clear();
        }
        return content;
    }

    private static void Change(FakeDisk disk, Random random)
    {
        for (var i = 0; i < 4; i++)
        {
            var data = new byte[random.Next(1, Chunk)];
            if (random.Next(3) > 0)
            {
                random.NextBytes(data);
            }
            disk.Write(random.Next(Length - data.Length), data);
        }
    }

    private static long DifferingChunkBytes(byte[] left, byte[] right)
    {
        long bytes = 0;
        for (var offset = 0; offset < left.Length; offset += Chunk)
        {
            var length = Math.Min(Chunk, left.Length - offset);
            bytes += left.AsSpan(offset, length).SequenceEqual(right.AsSpan(offset, length)) ? 0 : length;
        }
        return bytes;
    }

    private static JsonElement Json(string text) => JsonDocument.Parse(text).RootElement;
}
