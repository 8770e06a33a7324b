using VirtBackup.Agent.Tests.Fakes;
using VirtBackup.Core;

namespace VirtBackup.Agent.Tests;

public sealed class RestoreRunTests
{
    private const int Chunk = 256 << 10;

    [Theory]
    [InlineData("manifest")]
    [InlineData("grant")]
    [InlineData("node")]
    [InlineData("record")]
    public async Task AFlippedByteIsRefusedAndNothingWrongIsWritten(string where)
    {
        for (var seed = 0; seed < 12; seed++)
        {
            var content = Rig.RandomBytes(seed, 5 * Chunk);
            using var rig = new Rig(seed, content);
            var point = (await rig.BackupAsync()).PointId;
            Func<byte[], byte[]> flip = Flip(new Random(seed));
            switch (where)
            {
                case "manifest": rig.Store.Faults.ManifestTamper = flip; break;
                case "grant": rig.Store.Faults.GrantTamper = flip; break;
                case "node": rig.Store.Faults.NodeTamper = flip; break;
                default: rig.Store.Faults.RecordTamper = flip; break;
            }
            var fault = await Assert.ThrowsAsync<FaultException>(() => rig.RestoreAsync(point));
            Assert.Contains(fault.Reason, new[] { FaultReason.Corrupt, FaultReason.Malformed, FaultReason.Denied, FaultReason.Unsupported });
            if (rig.Hypervisor.Restored is { } restored)
            {
                Assert.False(restored.Completed);
                var written = restored.Content(rig.Disk.Summary.Id);
                for (var i = 0; i < content.Length; i++)
                {
                    Assert.True(written[i] == 0 || written[i] == content[i]);
                }
            }
        }
    }

    [Fact]
    public async Task AMissingRecordIsCorruption()
    {
        using var rig = new Rig(1, Rig.RandomBytes(1, 5 * Chunk));
        var point = (await rig.BackupAsync()).PointId;
        var missing = rig.Store.DataRecords[2];
        rig.Store.Faults.RecordList = (wanted, _) => wanted.Where(id => id != missing);
        var fault = await Assert.ThrowsAsync<FaultException>(() => rig.RestoreAsync(point));
        Assert.Equal(FaultReason.Corrupt, fault.Reason);
        Assert.False(rig.Hypervisor.Restored!.Completed);
    }

    [Fact]
    public async Task ARecordTooManyIsMalformed()
    {
        using var rig = new Rig(2, Rig.RandomBytes(2, 5 * Chunk));
        var point = (await rig.BackupAsync()).PointId;
        rig.Store.Faults.RecordList = (wanted, _) => [.. wanted, wanted[0]];
        var fault = await Assert.ThrowsAsync<FaultException>(() => rig.RestoreAsync(point));
        Assert.Equal(FaultReason.Malformed, fault.Reason);
    }

    [Fact]
    public async Task ABrokenStreamGoesOnHoweverOftenItBreaksAsLongAsItMoves()
    {
        using var rig = new Rig(3, Rig.RandomBytes(3, 30 * Chunk));
        var point = (await rig.BackupAsync()).PointId;
        (rig.Store.Faults.ReadBreakAfter, rig.Store.Faults.ReadBreaks) = (2, 14);
        await rig.RequireRestorableAsync(point);
        Assert.True(rig.Store.Faults.ReadBreaks <= 0);
    }

    [Fact]
    public async Task AStreamThatNeverMovesEndsTheRestore()
    {
        using var rig = new Rig(4, Rig.RandomBytes(4, 3 * Chunk));
        var point = (await rig.BackupAsync()).PointId;
        (rig.Store.Faults.ReadBreakAfter, rig.Store.Faults.ReadBreaks) = (0, int.MaxValue);
        var fault = await Assert.ThrowsAsync<FaultException>(() => rig.RestoreAsync(point));
        Assert.Equal(FaultReason.Unavailable, fault.Reason);
    }

    private static Func<byte[], byte[]> Flip(Random random) => bytes =>
    {
        bytes[random.Next(bytes.Length)] ^= (byte)(1 << random.Next(8));
        return bytes;
    };
}
