using VirtBackup.Core;
using VirtBackup.Testing.Platforms;
using VirtBackup.Testing.Platforms.VSphere;

namespace VirtBackup.Hypervisors.Tests.Conformance;

/// <summary>The port on a platform shaped as vSphere, its disks read at any offset.</summary>
public sealed class VSphereTests : FaultConformance
{
    protected override ServerMachine StartServer() => new VSphereServerMachine(exports: false);

    [Theory]
    [InlineData(2)]
    [InlineData(4)]
    public async Task A_query_that_fails_between_pages_ends_the_run_and_costs_nothing(int page)
    {
        await using var machine = new VSphereServerMachine(exports: false);
        var (book, random) = (new PointBook(machine), new Random(1));
        machine.Server.AreasMax = 1;
        await book.BackUpAsync(machine.Connect());
        for (var i = 0; i < 6; i++)
        {
            await machine.ScribbleAsync(random);
        }
        var basis = await book.SettleAsync(machine.Connect());
        var pages = 0;
        var link = new ServerLink
        {
            Refusal = (operation, _) => operation == "QueryChangedDiskAreas" && ++pages > page + machine.Disks.Count
                ? new FaultException(FaultReason.HypervisorUnavailable, "The server is busy.") : null,
        };
        var request = book.Request(basis);
        await using (var capture = await machine.Connect(link).BeginCaptureAsync(request, default))
        {
            await Assert.ThrowsAsync<FaultException>(async () => await book.ReadAsync(capture, request));
        }
        await machine.RequireTidyAsync();
        Assert.All((await book.BackUpAsync(machine.Connect())).Disks, disk => Assert.True(disk.ChangedOnly, disk.Reason));
    }

    [Fact]
    public async Task A_snapshot_that_another_hand_removes_is_told_as_lost()
    {
        await using var machine = new VSphereServerMachine(exports: false);
        var book = new PointBook(machine);
        await book.BackUpAsync(machine.Connect());
        await using (var capture = await machine.Connect().BeginCaptureAsync(book.Request(await book.SettleAsync(machine.Connect())), default))
        {
            machine.Server.RemoveSnapshot(machine.Id, machine.Machine.Snapshots[^1].Id);
            Assert.Equal(FaultReason.SnapshotLost, (await Assert.ThrowsAsync<FaultException>(async () => await capture.Disks[0].ReadAsync(0, new byte[512], default))).Reason);
            Assert.Equal(FaultReason.SnapshotLost, (await Assert.ThrowsAsync<FaultException>(async () => await capture.Disks[1].ListExtentsAsync(default).ToListAsync())).Reason);
        }
        Assert.All((await book.BackUpAsync(machine.Connect())).Disks, disk => Assert.True(disk.ChangedOnly, disk.Reason));
    }

    [Fact]
    public async Task A_machine_that_was_reverted_to_a_snapshot_is_read_in_full()
    {
        await using var machine = new VSphereServerMachine(exports: false);
        var book = new PointBook(machine);
        var before = machine.Server.CreateSnapshot(machine.Id, "before the update");
        await machine.ScribbleAsync(new Random(1));
        await book.BackUpAsync(machine.Connect());
        machine.Machine.Revert(before);
        Assert.All((await book.BackUpAsync(machine.Connect())).Disks, disk => Assert.False(disk.ChangedOnly));
    }

    [Fact]
    public async Task An_end_does_not_wait_for_the_consolidation_and_a_settlement_does()
    {
        await using var machine = new VSphereServerMachine(exports: false);
        var book = new PointBook(machine);
        machine.Server.ConsolidationSteps = 1000;
        await book.BackUpAsync(machine.Connect());
        Assert.Equal(1000, machine.Machine.ConsolidationLeft);
        var busy = await Assert.ThrowsAsync<FaultException>(async () => await machine.Connect().BeginCaptureAsync(book.Request(null), default));
        Assert.Equal(FaultReason.FailedPrecondition, busy.Reason);
        Assert.NotNull(await book.SettleAsync(machine.Connect()));
        Assert.Equal(0, machine.Machine.ConsolidationLeft);
    }
}

/// <summary>The same with disks that come as a stream.</summary>
public sealed class VSphereExportTests : FaultConformance
{
    protected override ServerMachine StartServer() => new VSphereServerMachine(exports: true);

    protected override ReadReach Reach => ReadReach.ListedExtents;

    [Fact]
    public async Task Reading_backwards_or_twice_at_once_is_a_defect_of_the_caller()
    {
        await using var machine = new VSphereServerMachine(exports: true);
        await using var capture = await machine.Connect().BeginCaptureAsync(new PointBook(machine).Request(null), default);
        await capture.Disks[0].ReadAsync(8192, new byte[4096], default);
        await Assert.ThrowsAsync<InvariantException>(async () => await capture.Disks[0].ReadAsync(4096, new byte[4096], default));
        Assert.True(capture.Disks[0].SequentialOnly);
    }
}

internal sealed class VSphereServerMachine : ServerMachine
{
    private readonly bool exports;
    private int folders;
    private bool isBroken;

    public VSphereServerMachine(bool exports)
    {
        this.exports = exports;
        Machine = Server.Add(new Id16(4711), Name);
        var random = new Random(11);
        Machine.AddDisk(ServerDisks.Sparse(random, 256 << 10));
        Machine.AddDisk(ServerDisks.Sparse(random, (180 << 10) + 512));
        Machine.AddDisk(new byte[64 << 10], "it is independent of snapshots");
    }

    public VSphereServer Server { get; } = new();

    public VSphereMachine Machine { get; }

    public override Id16 Id => Machine.Id;

    public override bool KeepsMarks => false;

    public override IReadOnlyList<string> Disks => [.. Machine.Disks.Where(disk => disk.OutsideSnapshots is null).Select(disk => disk.Label)];

    public override IReadOnlyList<string> SkippedDisks => [.. Machine.Disks.Where(disk => disk.OutsideSnapshots is not null).Select(disk => disk.Label)];

    public override IHypervisor Connect() => Connect(new ServerLink { Refusal = isBroken ? ServerDisks.Unreachable : null });

    public override Task BreakAsync()
    {
        isBroken = true;
        return Task.CompletedTask;
    }

    internal override IHypervisor Connect(ServerLink link) => new VSphereHypervisor(Server, [new PlatformMachine(Id, Name)], link) { Exports = exports };

    public override Task WriteAsync(string disk, long offset, byte[] data)
    {
        Machine.Disk(disk).Write(offset, data);
        return Task.CompletedTask;
    }

    public override Task<byte[]> ReadAsync(string disk) => Task.FromResult(Machine.Disk(disk).Content.ToArray());

    public override Task<string?> FindLeftoversAsync()
    {
        var ours = Machine.Snapshots.Where(snapshot => snapshot.Name.StartsWith("virtbackup", StringComparison.Ordinal)).Select(snapshot => snapshot.Name).ToList();
        return Task.FromResult(ours.Count + Server.OpenLeases == 0 ? null : $"snapshots [{string.Join(' ', ours)}], {Server.OpenLeases} leases");
    }

    public override Task LoseTrackingAsync()
    {
        Machine.LosePower();
        return Task.CompletedTask;
    }

    public override Task<string> AddDiskAsync(byte[] content) => Task.FromResult(Machine.AddDisk(content).Label);

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
        Server.CreateSnapshot(Id, "before the update");
        return Task.CompletedTask;
    }

    public override Task<string> DescribeForeignAsync() =>
        Task.FromResult(string.Join(' ', Machine.Snapshots.Where(snapshot => !snapshot.Name.StartsWith("virtbackup", StringComparison.Ordinal)).Select(snapshot => $"{snapshot.Id} {snapshot.Name}")));

    public override string NewRestoreFolder() => $"[datastore] restored-{folders++}";

    public override bool HasRestored(string folder) => Server.Datastore.Files.Any(file => file.StartsWith(folder, StringComparison.Ordinal));

    public override Task<byte[]> ReadRestoredAsync(RestoredMachine restored, string disk) => Task.FromResult(Server.Datastore.Read(restored.Details[$"disk {disk}"]));

    public override ValueTask DisposeAsync() => ValueTask.CompletedTask;
}

internal static class ServerDisks
{
    public static FaultException? Unreachable(string operation, int number) => new(FaultReason.HypervisorUnavailable, $"The server does not answer to {operation}.");

    /// <summary>Random content with holes.</summary>
    public static byte[] Sparse(Random random, int length)
    {
        var content = new byte[length];
        for (var offset = 0; offset < length; offset += 8 << 10)
        {
            if (random.Next(3) > 0)
            {
                random.NextBytes(content.AsSpan(offset, Math.Min(8 << 10, length - offset)));
            }
        }
        return content;
    }
}
