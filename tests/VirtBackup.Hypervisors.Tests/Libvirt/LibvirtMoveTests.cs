using VirtBackup.Core;
using VirtBackup.Hypervisors.Tests.Conformance;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Libvirt;

/// <summary>Disks of a machine of libvirt that go to another storage of the same host: its chain of backups goes on there.</summary>
[Collection(SharedLibvirt.Collection)]
public sealed class LibvirtMoveTests(SharedLibvirt shared)
{
    private readonly Random random = new(3);

    [Fact]
    public async Task A_machine_moves_while_it_runs_and_while_it_is_off_and_its_changes_go_on_being_known()
    {
        await using var machine = await StillLibvirtMachine.StartAsync(shared.Daemon);
        await machine.MakeForeignAsync();
        var book = new PointBook(machine);
        await book.BackUpAsync(machine.Connect());
        var sources = machine.Disks.Select(machine.ImageOf).ToList();
        var request = new StorageMoveRequest(machine.Id, machine.PathOf("new"));
        var mover = (IStorageMover)machine.Connect();
        var plan = await mover.CheckMoveAsync(request, default);
        Assert.True(plan is { Refused: false, Running: true, Disks.Count: 2 }, string.Join('\n', plan.Findings));
        Assert.InRange((await mover.SampleMoveAsync(plan, default)).Bytes, 1, 4 << 20);
        Assert.True((await mover.CheckMoveAsync(request with { Target = "pool:none" }, default)).Refused);

        // What does not fit breaks off.
        await using (var small = await SmallFolder.MountAsync(8))
        {
            await Proc.CheckAsync("chmod", ["777", small.Path]);
            small.Fill();
            await Assert.ThrowsAsync<FaultException>(async () => await mover.MoveAsync(request with { Target = small.Path }, default));
            small.Relieve();
            using var stop = new CancellationTokenSource();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await mover.MoveAsync(request with
            {
                Target = small.Path, BytesPerSecondMax = 64 << 10, Progress = progress => { if (progress.Phase == "copying") { stop.Cancel(); } },
            }, stop.Token));
            Assert.Empty(Directory.GetFileSystemEntries(small.Path));
        }
        await RequireTidyAsync(machine);

        // Its processors run, so that there is something to be stopped.
        await shared.Daemon.VirshAsync("resume", ConformanceMachine.Name);
        var outcome = await mover.MoveAsync(request, default);
        Assert.InRange(outcome.Interruption!.Value.TotalSeconds, 0.0001, 10);
        Assert.Equal("running", (await shared.Daemon.VirshAsync("domstate", ConformanceMachine.Name)).Trim());
        await shared.Daemon.VirshAsync("suspend", ConformanceMachine.Name);
        Assert.All(sources, source => Assert.False(File.Exists(source)));
        await FollowAsync(machine, outcome);
        await RequireChangesAsync(machine, book);

        // Kept, and off.
        await machine.PowerOffAsync();
        var cold = await mover.MoveAsync(new StorageMoveRequest(machine.Id, machine.PathOf("off")) { KeepSource = true }, default);
        Assert.Null(cold.Interruption);
        Assert.Equal(2, cold.KeptPaths.Count(File.Exists));
        await FollowAsync(machine, cold);
        await RequireChangesAsync(machine, book);
        await machine.PowerOnAsync();
        await RequireChangesAsync(machine, book);
        Assert.Contains("other-tool", await machine.CheckpointsAsync());
        await RequireTidyAsync(machine);
    }

    [Fact]
    public async Task A_killed_move_is_undone_or_finished_as_libvirt_knows_it()
    {
        await using var machine = await StillLibvirtMachine.StartAsync(shared.Daemon);
        var book = new PointBook(machine);
        await book.BackUpAsync(machine.Connect());
        await BreakOffAsync(machine, "copying", () => Task.CompletedTask);
        Assert.False(Directory.Exists(machine.PathOf("new")));
        await RequireTidyAsync(machine);
        await BreakOffAsync(machine, "copying", machine.Domain.KillAsync);
        Assert.False(Directory.Exists(machine.PathOf("new")));
        await machine.PowerOnAsync();
        var old = machine.ImageOf("sda");
        await BreakOffAsync(machine, "changing over", () => shared.Daemon.VirshAsync("blockjob", ConformanceMachine.Name, "sda", "--pivot"));
        Assert.False(File.Exists(old));
        machine.FollowMove("sda", machine.PathOf("new/sda.qcow2"));
        Assert.True(File.Exists(machine.ImageOf("sda")) && File.Exists(machine.ImageOf("sdb")));
        Assert.Single(Directory.GetFiles(machine.PathOf("new")));
        await RequireTidyAsync(machine);
        await machine.ScribbleAsync(random);
        await book.BackUpAsync(machine.Connect());
        await RequireChangesAsync(machine, book);
    }

    [Fact]
    public async Task A_move_that_changed_over_in_part_says_which_disks_moved()
    {
        await using var machine = await StillLibvirtMachine.StartAsync(shared.Daemon);
        var (moved, left) = (machine.ImageOf("sda"), machine.ImageOf("sdb"));
        var request = new StorageMoveRequest(machine.Id, machine.PathOf("new"))
        {
            Progress = progress =>
            {
                if (progress.Phase == "changing over")
                {
                    shared.Daemon.VirshAsync("blockjob", ConformanceMachine.Name, "sdb", "--abort").GetAwaiter().GetResult();
                }
            },
        };
        var fault = await Assert.ThrowsAsync<FaultException>(() => Task.Run(async () => await ((IStorageMover)machine.Connect()).MoveAsync(request, default)));
        Assert.Contains("At the new place are now: sda;", fault.Message, StringComparison.Ordinal);
        Assert.Equal((false, true), (File.Exists(moved), File.Exists(left)));
        machine.FollowMove("sda", machine.PathOf("new/sda.qcow2"));
        Assert.Single(Directory.GetFiles(machine.PathOf("new")));
        await RequireTidyAsync(machine);
    }

    /// <summary>A move stops for ever at a phase, something happens, and an agent that starts now finds it so.</summary>
    private static Task BreakOffAsync(StillLibvirtMachine machine, string phase, Func<Task> happens) =>
        BrokenMove.RunAsync((IStorageMover)machine.Connect(), new StorageMoveRequest(machine.Id, machine.PathOf("new")), phase, 64 << 10, async () =>
        {
            await happens();
            await machine.Connect().ReleaseGuestsAsync(default);
            Assert.Empty(Directory.EnumerateFiles(machine.StateFolder, "moving-*"));
        });

    private async Task RequireChangesAsync(StillLibvirtMachine machine, PointBook book)
    {
        var newest = book.NewestCommitted;
        await machine.ScribbleAsync(random);
        var made = await book.BackUpAsync(machine.Connect());
        Assert.Equal(newest, made.Base);
        Assert.All(made.Disks, disk => Assert.True(disk.ChangedOnly && disk.Bytes is > 0 and < 1 << 20, disk.Reason));
    }

    private async Task FollowAsync(StillLibvirtMachine machine, StorageMoveOutcome outcome)
    {
        var (present, next) = (await shared.Daemon.VirshAsync("dumpxml", ConformanceMachine.Name), await shared.Daemon.VirshAsync("dumpxml", ConformanceMachine.Name, "--inactive"));
        foreach (var disk in outcome.Disks)
        {
            Assert.Contains($"'{disk.Move.NewPath}'", present, StringComparison.Ordinal);
            Assert.Contains($"'{disk.Move.NewPath}'", next, StringComparison.Ordinal);
            machine.FollowMove(disk.Move.Disk.Name, disk.Move.NewPath);
        }
    }

    private static async Task RequireTidyAsync(StillLibvirtMachine machine)
    {
        Assert.Null(await machine.FindLeftoversAsync());
        Assert.Empty(Directory.EnumerateFiles(machine.StateFolder));
    }
}
