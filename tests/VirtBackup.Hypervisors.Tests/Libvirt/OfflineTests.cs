using VirtBackup.Hypervisors.Tests.Conformance;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Libvirt;

/// <summary>Machines that are off: what their images know of changes is used while it can be trusted, and goes on in both directions.</summary>
[Collection(SharedLibvirt.Collection)]
public sealed class OfflineTests(SharedLibvirt shared)
{
    private readonly Random random = new(1);

    [Fact]
    public async Task A_machine_that_is_off_is_read_by_changes_and_its_chain_goes_on_when_it_is_started_and_stopped()
    {
        await using var machine = await StillLibvirtMachine.StartAsync(shared.Daemon, starts: false);
        var book = new PointBook(machine);
        await AddForeignAsync(machine);

        // Off from the beginning: the first full read begins tracking.
        RequireFull(await book.BackUpAsync(machine.Connect()), "no change tracking since an earlier recovery point", "sda", "sdb");
        await RequireChangesAsync(machine, book);
        var still = await book.BackUpAsync(machine.Connect());
        Assert.All(still.Disks, disk => Assert.Equal(0, disk.Bytes));
        await machine.ScribbleAsync(random);
        var plan = await machine.Connect().PlanCaptureAsync(book.Request(still.Point), default);
        Assert.All(plan.Disks.Where(disk => disk.Disk.SkipReason is null), disk => Assert.True(disk.ChangedOnly && disk.ReadBytes > 0, disk.Reason));

        // Started, written to, stopped, written to.
        await machine.PowerOnAsync();
        await RequireChangesAsync(machine, book);
        await RequireChangesAsync(machine, book, () => machine.ScribbleAsync(random));
        await machine.ScribbleAsync(random);
        await machine.PowerOffAsync();
        await RequireChangesAsync(machine, book);
        await RequireChangesAsync(machine, book);

        Assert.Equal([$"virtbackup-{book.NewestCommitted}"], await machine.CheckpointsAsync());
        Assert.Equal([$"virtbackup-{book.NewestCommitted}", "other-tool"], (await BitmapsAsync(machine, "sda")).OrderDescending());
        await machine.RequireTidyAsync();
    }

    [Fact]
    public async Task However_a_capture_of_a_machine_that_is_off_ends_the_next_one_misses_nothing()
    {
        await using var machine = await StillLibvirtMachine.StartAsync(shared.Daemon, starts: false);
        var book = new PointBook(machine);
        await book.BackUpAsync(machine.Connect());
        foreach (var end in Enum.GetValues<HypervisorConformance.End>())
        {
            foreach (var isCommitted in end == HypervisorConformance.End.Detach ? [true, false] : new[] { end == HypervisorConformance.End.Commit })
            {
                await machine.ScribbleAsync(random);
                var request = book.Request(await book.SettleAsync(machine.Connect()));
                var capture = await machine.Connect().BeginCaptureAsync(request, default);
                await book.ReadAsync(capture, request);
                // Nobody writes meanwhile: neither the machine, nor a second capture.
                Assert.NotEqual(0, (await shared.Daemon.TryVirshAsync("start", ConformanceMachine.Name, "--paused")).ExitCode);
                if (isCommitted)
                {
                    book.Committed.Add(request.Point);
                }
                await (end switch
                {
                    HypervisorConformance.End.Commit => capture.CommitAsync(default),
                    HypervisorConformance.End.Abandon => capture.AbandonAsync(default),
                    HypervisorConformance.End.Detach => capture.DetachAsync(default),
                    _ => ValueTask.CompletedTask,
                });
                await capture.DisposeAsync();
                await RequireChangesAsync(machine, book);
                Assert.Equal([$"virtbackup-{book.NewestCommitted}"], await BitmapsAsync(machine, "sdb"));
            }
        }
        // Its agent died right behind the beginning of tracking; then the machine is started.
        var lost = await machine.Connect().BeginCaptureAsync(book.Request(book.NewestCommitted), default);
        await lost.DetachAsync(default);
        await machine.PowerOnAsync();
        await RequireChangesAsync(machine, book);
        Assert.Equal([$"virtbackup-{book.NewestCommitted}"], await machine.CheckpointsAsync());
    }

    [Fact]
    public async Task What_cannot_be_trusted_is_read_in_full_with_the_reason()
    {
        await using var machine = await StillLibvirtMachine.StartAsync(shared.Daemon, starts: false);
        var book = new PointBook(machine);
        await book.BackUpAsync(machine.Connect());

        await machine.GrowDiskAsync("sda", 3 << 20);
        RequireFull(await book.BackUpAsync(machine.Connect()), "resized from 1048576 to 3145728 bytes", "sda");
        await machine.AddOverlayAsync("sdb");
        RequireFull(await book.BackUpAsync(machine.Connect()), "overlays were put on its image", "sdb");
        await RequireChangesAsync(machine, book);

        // A program that is killed while it may write leaves its bitmaps marked as in use.
        await machine.PowerOnAsync();
        await machine.Domain.KillAsync();
        await machine.PowerOnAsync();
        await machine.PowerOffAsync();
        RequireFull(await book.BackUpAsync(machine.Connect()), "its change tracking is inconsistent", "sda", "sdb");
        await RequireChangesAsync(machine, book);

        await Proc.CheckAsync("qemu-img", ["bitmap", "--disable", machine.ImageOf("sda"), $"virtbackup-{book.NewestCommitted}"]);
        await Proc.CheckAsync("qemu-img", ["bitmap", "--remove", machine.ImageOf("sdb"), $"virtbackup-{book.NewestCommitted}"]);
        await machine.ScribbleAsync(random);
        var made = await book.BackUpAsync(machine.Connect());
        Assert.Contains("stopped by another program", made.Disk("sda").Reason, StringComparison.Ordinal);
        Assert.Contains("is missing", made.Disk("sdb").Reason, StringComparison.Ordinal);
        await RequireChangesAsync(machine, book);
    }

    private async Task RequireChangesAsync(StillLibvirtMachine machine, PointBook book, Func<Task>? during = null)
    {
        var newest = book.NewestCommitted;
        await machine.ScribbleAsync(random);
        var made = await book.BackUpAsync(machine.Connect(), during);
        Assert.Equal(newest, made.Base);
        Assert.All(made.Disks, disk => Assert.True(disk.ChangedOnly && disk.Bytes is > 0 and < 1 << 20, disk.Reason));
    }

    private static void RequireFull(MadePoint made, string reason, params string[] full) => Assert.All(made.Disks, disk => Assert.True(full.Contains(disk.Name)
        ? !disk.ChangedOnly && disk.Reason.StartsWith("read in full", StringComparison.Ordinal) && disk.Reason.Contains(reason, StringComparison.Ordinal) : disk.ChangedOnly, $"{disk.Name}: {disk.Reason}"));

    private static async Task AddForeignAsync(StillLibvirtMachine machine) => await Proc.CheckAsync("qemu-img", ["bitmap", "--add", machine.ImageOf("sda"), "other-tool"]);

    private static async Task<string[]> BitmapsAsync(StillLibvirtMachine machine, string disk) => await TrackingTests.BitmapsOfAsync(machine.ImageOf(disk));
}
