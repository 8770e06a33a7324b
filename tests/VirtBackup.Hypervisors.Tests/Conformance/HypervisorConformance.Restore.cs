using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Tests.Conformance;

public abstract partial class HypervisorConformance
{
    [Fact]
    public async Task A_restored_machine_has_the_bytes_that_were_written_in_any_order()
    {
        await using var machine = await StartAsync();
        var (point, request) = await StoreAsync(machine);
        var asked = 0;
        // Asked once, if this platform starts machines at all; what it says is done.
        request = request with { Start = true, StartGate = _ => ValueTask.FromResult(++asked > 1) };
        var driver = machine.Connect();
        Assert.DoesNotContain(await driver.CheckRestoreAsync(request, default), finding => finding.Severity == FindingSeverity.Blocks);
        Assert.False(machine.HasRestored(request.Folder));
        await using var restore = await driver.BeginRestoreAsync(request, default);
        Assert.Equal(request.Disks, restore.Disks.Select(disk => disk.Disk));
        foreach (var disk in restore.Disks)
        {
            await WriteShuffledAsync(disk, point[disk.Disk.Id]);
        }
        var restored = await restore.CompleteAsync(default);
        Assert.Equal((request.Name, false, null), (restored.Name, restored.Running, restored.Guest));
        Assert.InRange(asked, 0, 1);
        await restore.DisposeAsync();
        foreach (var disk in request.Disks)
        {
            Assert.Equal(point[disk.Id], await machine.ReadRestoredAsync(restored, disk.Name));
        }
    }

    [Fact]
    public async Task A_restore_that_is_not_completed_leaves_nothing()
    {
        await using var machine = await StartAsync();
        var (point, request) = await StoreAsync(machine);
        var restore = await machine.Connect().BeginRestoreAsync(request, default);
        Assert.True(machine.HasRestored(request.Folder));
        await restore.Disks[0].WriteAsync(0, point[restore.Disks[0].Disk.Id].AsMemory(0, 4096), default);
        await restore.DisposeAsync();
        Assert.False(machine.HasRestored(request.Folder));
        await restore.DisposeAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await machine.Connect().BeginRestoreAsync(request, new CancellationToken(canceled: true)));
        Assert.False(machine.HasRestored(request.Folder));
    }

    [Fact]
    public async Task A_place_that_is_taken_is_refused_before_anything_is_written()
    {
        await using var machine = await StartAsync();
        var (point, request) = await StoreAsync(machine);
        var driver = machine.Connect();
        RestoredMachine first;
        await using (var restore = await driver.BeginRestoreAsync(request, default))
        {
            foreach (var disk in restore.Disks)
            {
                await WriteShuffledAsync(disk, point[disk.Disk.Id]);
            }
            first = await restore.CompleteAsync(default);
        }
        Assert.Contains(await driver.CheckRestoreAsync(request, default), finding => finding.Severity == FindingSeverity.Blocks && finding.Message.Length > 0);
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await driver.BeginRestoreAsync(request, default));
        Assert.Equal(FaultReason.FailedPrecondition, fault.Reason);
        foreach (var disk in request.Disks)
        {
            Assert.Equal(point[disk.Id], await machine.ReadRestoredAsync(first, disk.Name));
        }
    }

    [Fact]
    public async Task A_disk_format_that_cannot_be_made_is_refused()
    {
        await using var machine = await StartAsync();
        var (_, request) = await StoreAsync(machine);
        request = request with { Disks = [.. request.Disks.Select(disk => disk with { Format = "floppy" })] };
        Assert.Contains(await machine.Connect().CheckRestoreAsync(request, default), finding => finding.Severity == FindingSeverity.Blocks && finding.Message.Contains("floppy", StringComparison.Ordinal));
        await Assert.ThrowsAsync<FaultException>(async () => await machine.Connect().BeginRestoreAsync(request, default));
        Assert.False(machine.HasRestored(request.Folder));
    }

    /// <summary>Backs the machine up.</summary>
    /// <returns>The content by disk id, and a request to restore it.</returns>
    private static async Task<(Dictionary<Id16, byte[]> Point, RestoreRequest Request)> StoreAsync(ConformanceMachine machine)
    {
        var (book, driver) = (new PointBook(machine), machine.Connect());
        var request = book.Request(null);
        await using var capture = await driver.BeginCaptureAsync(request, default);
        await book.ReadAsync(capture, request);
        await capture.CommitAsync(default);
        var content = capture.Disks.ToDictionary(disk => disk.Disk.Id, disk => book.ContentOf(request.Point, disk.Disk.Id));
        return (content, new RestoreRequest(machine.Id, request.Point, driver.Kind, capture.Configuration,
            [.. capture.Disks.Select(disk => new RestoreDisk(disk.Disk.Id, disk.Disk.Name, disk.Disk.LengthBytes, disk.Disk.Format, disk.Disk.LengthBytes))],
            machine.NewRestoreFolder(), "web1-restored") { Start = false });
    }

    private static async Task WriteShuffledAsync(IRestoredDisk disk, byte[] content)
    {
        const int Block = 48 << 10;
        var offsets = Enumerable.Range(0, (content.Length + Block - 1) / Block).Select(block => block * Block).ToArray();
        new Random(7).Shuffle(offsets);
        // New disks are zero, so that zeros need not be written.
        await Task.WhenAll(offsets.Select(offset => content.AsMemory(offset, Math.Min(Block, content.Length - offset)) is var part && part.Span.ContainsAnyExcept((byte)0)
            ? disk.WriteAsync(offset, part, default).AsTask() : Task.CompletedTask));
    }
}
