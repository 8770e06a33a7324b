using VirtBackup.Core;
using VirtBackup.Testing.Platforms;
using VirtBackup.Testing.Platforms.HyperV;

namespace VirtBackup.Hypervisors.Tests.Conformance;

/// <summary>The port on a platform shaped as Hyper-V.</summary>
public sealed class HyperVTests : FaultConformance
{
    protected override ServerMachine StartServer() => new HyperVServerMachine();

    [Fact]
    public async Task A_query_that_fails_between_regions_ends_the_run_and_costs_nothing()
    {
        await using var machine = new HyperVServerMachine();
        var (book, random) = (new PointBook(machine), new Random(1));
        await book.BackUpAsync(machine.Connect());
        for (var i = 0; i < 6; i++)
        {
            await machine.ScribbleAsync(random);
        }
        var queries = 0;
        var link = new ServerLink
        {
            Refusal = (operation, _) => operation == "GetVirtualDiskChanges" && ++queries > machine.Disks.Count + 1
                ? new FaultException(FaultReason.HypervisorUnavailable, "The server is busy.") : null,
        };
        var request = book.Request(await book.SettleAsync(machine.Connect()));
        await using (var capture = await machine.Connect(link).BeginCaptureAsync(request, default))
        {
            await Assert.ThrowsAsync<FaultException>(async () => await book.ReadAsync(capture, request));
        }
        await machine.RequireTidyAsync();
        Assert.All((await book.BackUpAsync(machine.Connect())).Disks, disk => Assert.True(disk.ChangedOnly, disk.Reason));
    }

    [Fact]
    public async Task A_checkpoint_that_another_hand_removes_is_told_as_lost()
    {
        await using var machine = new HyperVServerMachine();
        var book = new PointBook(machine);
        await book.BackUpAsync(machine.Connect());
        await using (var capture = await machine.Connect().BeginCaptureAsync(book.Request(await book.SettleAsync(machine.Connect())), default))
        {
            machine.Server.DestroyCheckpoint(machine.Id, machine.Machine.Checkpoints[^1].Id);
            Assert.Equal(FaultReason.SnapshotLost, (await Assert.ThrowsAsync<FaultException>(async () => await capture.Disks[0].ReadAsync(0, new byte[512], default))).Reason);
            Assert.Equal(FaultReason.SnapshotLost, (await Assert.ThrowsAsync<FaultException>(async () => await capture.Disks[1].ListExtentsAsync(default).ToListAsync())).Reason);
        }
        Assert.All((await book.BackUpAsync(machine.Connect())).Disks, disk => Assert.True(disk.ChangedOnly, disk.Reason));
    }

    [Fact]
    public async Task Reference_points_do_not_pile_up()
    {
        await using var machine = new HyperVServerMachine();
        var (book, random) = (new PointBook(machine), new Random(1));
        for (var i = 0; i < 5; i++)
        {
            await book.BackUpAsync(machine.Connect(), full: i == 3);
            await machine.ScribbleAsync(random);
            Assert.Single(machine.Machine.ReferencePoints);
            Assert.All(machine.Machine.Disks.Where(disk => disk.Passthrough is null), disk => Assert.Single(disk.TrackingIds));
        }
    }

    [Fact]
    public async Task A_reference_point_that_nobody_remembers_is_left_as_another_tool_s()
    {
        await using var machine = new HyperVServerMachine();
        await new PointBook(machine).BackUpAsync(machine.Connect());
        var reference = Assert.Single(machine.Machine.ReferencePoints);
        var forgetful = new PointBook(machine);
        Assert.Null(await forgetful.SettleAsync(machine.Connect()));
        Assert.All((await forgetful.BackUpAsync(machine.Connect())).Disks, disk => Assert.False(disk.ChangedOnly));
        Assert.Contains(reference, machine.Machine.ReferencePoints);
    }
}

internal sealed class HyperVServerMachine : ServerMachine
{
    private int folders;
    private string? foreign;
    private bool isBroken;

    public HyperVServerMachine()
    {
        Machine = Server.Add(new Id16(4711), Name);
        var random = new Random(11);
        Machine.AddDisk(ServerDisks.Sparse(random, 256 << 10));
        Machine.AddDisk(ServerDisks.Sparse(random, (180 << 10) + 512));
        Machine.AddDisk(new byte[64 << 10], "the guest talks to the device directly (passthrough)");
    }

    public HyperVServer Server { get; } = new();

    public HyperVMachine Machine { get; }

    public override Id16 Id => Machine.Id;

    public override IReadOnlyList<string> Disks => [.. Machine.Disks.Where(disk => disk.Passthrough is null).Select(disk => disk.Path)];

    public override IReadOnlyList<string> SkippedDisks => [.. Machine.Disks.Where(disk => disk.Passthrough is not null).Select(disk => disk.Path)];

    public override IHypervisor Connect() => Connect(new ServerLink { Refusal = isBroken ? ServerDisks.Unreachable : null });

    public override Task BreakAsync()
    {
        isBroken = true;
        return Task.CompletedTask;
    }

    internal override IHypervisor Connect(ServerLink link) => new HyperVHypervisor(Server, [new PlatformMachine(Id, Name)], link);

    public override Task WriteAsync(string disk, long offset, byte[] data)
    {
        Machine.Disk(disk).Write(offset, data);
        return Task.CompletedTask;
    }

    public override Task<byte[]> ReadAsync(string disk) => Task.FromResult(Machine.Disk(disk).Content.ToArray());

    public override Task<string?> FindLeftoversAsync()
    {
        var ours = Machine.Checkpoints.Where(checkpoint => checkpoint.Name.StartsWith("virtbackup", StringComparison.Ordinal)).Select(checkpoint => checkpoint.Name).ToList();
        // One of ours per point that is tracked, or may be, and one of the other tool's.
        return Task.FromResult(ours.Count == 0 && Machine.ReferencePoints.Count <= 3 ? null : $"checkpoints [{string.Join(' ', ours)}], {Machine.ReferencePoints.Count} reference points");
    }

    public override Task LoseTrackingAsync()
    {
        Machine.LoseReferencePoints();
        return Task.CompletedTask;
    }

    public override Task<string> AddDiskAsync(byte[] content) => Task.FromResult(Machine.AddDisk(content).Path);

    public override Task RemoveDiskAsync(string disk)
    {
        Machine.Disks.Remove(Machine.Disk(disk));
        return Task.CompletedTask;
    }

    public override Task GrowDiskAsync(string disk, long length)
    {
        Machine.Disk(disk).Grow(length);
        return Task.CompletedTask;
    }

    public override Task MakeForeignAsync()
    {
        Server.CreateCheckpoint(Id, "before the update");
        foreign = Server.ConvertToReferencePoint(Id, Server.CreateCheckpoint(Id, "other-tool").Id);
        Machine.MergeLeft = 0;
        return Task.CompletedTask;
    }

    public override Task<string> DescribeForeignAsync() => Task.FromResult(string.Join(' ',
        Machine.Checkpoints.Where(checkpoint => !checkpoint.Name.StartsWith("virtbackup", StringComparison.Ordinal)).Select(checkpoint => $"{checkpoint.Id} {checkpoint.Name}")
            .Concat(Machine.ReferencePoints.Where(reference => reference.Id == foreign).Select(reference => $"{reference.Id} {string.Join(' ', reference.TrackingIds)}"))));

    public override string NewRestoreFolder() => $"[datastore] restored-{folders++}";

    public override bool HasRestored(string folder) => Server.Datastore.Files.Any(file => file.StartsWith(folder, StringComparison.Ordinal));

    public override Task<byte[]> ReadRestoredAsync(RestoredMachine restored, string disk) => Task.FromResult(Server.Datastore.Read(restored.Details[$"disk {disk}"]));

    public override ValueTask DisposeAsync() => ValueTask.CompletedTask;
}
