using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Hypervisors.Libvirt;
using VirtBackup.Hypervisors.Tests.Guests;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Libvirt;

/// <summary>Captures of a real machine of a real, private libvirtd.</summary>
public class LibvirtCaptureTests
{
    [Fact]
    public async Task A_chain_of_captures_equals_the_disks_and_reads_only_changes()
    {
        await using var lab = await LibvirtLab.BootAsync(LabDiskFormat.Raw);
        var (first, second, third) = (LibvirtLab.NewPoint(), LibvirtLab.NewPoint(), LibvirtLab.NewPoint());

        var (fullBytes, fullReasons) = await lab.BackUpAsync(first);
        Assert.StartsWith("read in full: no change tracking", fullReasons["vda"], StringComparison.Ordinal);
        Assert.StartsWith("read in full: libvirt tracks changes of qcow2 images only", fullReasons["vdb"], StringComparison.Ordinal);
        Assert.Equal([$"virtbackup-{first}"], await lab.CheckpointsAsync());

        await lab.WriteAsync("/root/one", 300);
        var (bytes, reasons) = await lab.BackUpAsync(second, first);
        Assert.Equal("changed blocks only", reasons["vda"]);
        Assert.StartsWith("read in full", reasons["vdb"], StringComparison.Ordinal);
        Assert.InRange(bytes, 300 << 10, fullBytes - (4 << 20));
        Assert.Equal([$"virtbackup-{second}"], await lab.CheckpointsAsync());

        await lab.WriteAsync("/data/two", 500);
        await lab.BackUpAsync(third, first, second);
        await lab.AssertCleanAsync();
    }

    [Fact]
    public async Task What_is_written_after_the_cut_is_not_in_it_and_the_freeze_is_told()
    {
        await using var lab = await LibvirtLab.BootAsync();
        var point = LibvirtLab.NewPoint();
        await using var capture = await lab.Driver.BeginCaptureAsync(lab.Request(point), default);
        Assert.Equal(CaptureConsistency.Filesystem, capture.Consistency);
        Assert.Matches("^2 file systems were frozen for [0-9]+ ms", capture.ConsistencyDetail);
        var before = capture.Disks[1];
        var start = new byte[1 << 20];
        await before.ReadAsync(0, start, default);
        await lab.WriteAsync("/data/later", 4096);
        var again = new byte[1 << 20];
        await before.ReadAsync(0, again, default);
        Assert.Equal(start, again);
        await capture.AbandonAsync(default);
        Assert.Empty(await lab.CheckpointsAsync());
        await lab.AssertCleanAsync();
        (await lab.Domain.ExecAsync("touch /root/thawed && sync")).EnsureSuccess();
        await CutTogetherAsync(lab);
    }

    // With others: it stands still until all are cut, and goes on whatever becomes of them, or of this process.
    private static async Task CutTogetherAsync(LibvirtLab lab)
    {
        async Task<string> StateAsync() => (await lab.Libvirt.VirshAsync("domstate", "lab")).Trim();
        var held = new TestGate(async (step, _) => Assert.Equal(step is "ready" or "prepared" ? "running" : "paused", await StateAsync()));
        await using (var capture = await lab.Driver.BeginCaptureAsync(lab.Request(LibvirtLab.NewPoint()) with { Gate = held }, default))
        {
            Assert.Equal((CaptureConsistency.Filesystem, "running"), (capture.Consistency, await StateAsync()));
            Assert.Equal(["ready", "prepared", "frozen", "cut", "held"], held.Passed);
        }
        var broken = new TestGate((step, _) => step == "cut" ? throw new FaultException(FaultReason.FailedPrecondition, "The other one failed.") : Task.CompletedTask);
        await Assert.ThrowsAsync<FaultException>(async () => await lab.Driver.BeginCaptureAsync(lab.Request(LibvirtLab.NewPoint()) with { Gate = broken }, default));
        Assert.Equal("running", await StateAsync());
        await lab.AssertCleanAsync();

        // What the watchdog does when the process that holds the guest is gone.
        var released = new TestGate(async (step, token) =>
        {
            if (step != "frozen") return;
            var target = new FreezeTarget("libvirt", lab.Machine, "lab", Directory.GetDirectories(lab.Fleece).Single(), new Dictionary<string, string> { ["uri"] = lab.Libvirt.Uri });
            Assert.Equal(ReleaseOutcome.Released, await new LibvirtGuestRelease(new WaitingThreads(), TimeProvider.System).TryReleaseAsync(target, static _ => { }, token));
            Assert.Equal("running", await StateAsync());
            (await lab.Domain.ExecAsync("touch /root/released && sync")).EnsureSuccess();
        });
        await using (var capture = await lab.Driver.BeginCaptureAsync(lab.Request(LibvirtLab.NewPoint()) with { Gate = released }, default))
        {
            Assert.Equal((CaptureConsistency.Crash, "not held"), (capture.Consistency, released.Passed[^1]));
        }
        await lab.AssertCleanAsync();
    }

    [Fact]
    public async Task An_abandoned_capture_costs_the_next_one_nothing()
    {
        await using var lab = await LibvirtLab.BootAsync();
        var (first, dropped, third) = (LibvirtLab.NewPoint(), LibvirtLab.NewPoint(), LibvirtLab.NewPoint());
        await lab.BackUpAsync(first);
        await lab.WriteAsync("/data/a", 200);
        await using (var capture = await lab.Driver.BeginCaptureAsync(lab.Request(dropped, first), default))
        {
            await lab.WriteAsync("/data/b", 200);
            await capture.AbandonAsync(default);
        }
        var (_, reasons) = await lab.BackUpAsync(third, first);
        Assert.All(reasons.Values, reason => Assert.Equal("changed blocks only", reason));

        // An agent that was killed when the machine's state had been saved and the machine had ended: its next start brings it back.
        (await lab.Domain.ExecAsync("echo kept > /run/memory")).EnsureSuccess();
        var folder = Directory.CreateDirectory(Path.Combine(lab.Fleece, $"virtbackup-{lab.Machine}-0badcafe")).FullName;
        if (!OperatingSystem.IsWindows()) File.SetUnixFileMode(folder, (UnixFileMode)0b111_111_111);
        await File.WriteAllTextAsync(Path.Combine(folder, "stopped"), "");
        await File.WriteAllTextAsync(Path.Combine(folder, "saved"), "");
        await lab.Libvirt.VirshAsync("suspend", "lab");
        await lab.Libvirt.VirshAsync("save", "lab", Path.Combine(folder, "state.only"));
        Assert.Equal("shut off", (await lab.Libvirt.VirshAsync("domstate", "lab")).Trim());
        await lab.NewDriver().ReleaseGuestsAsync(default);
        Assert.Equal("running", (await lab.Libvirt.VirshAsync("domstate", "lab")).Trim());
        Assert.Equal("kept\n", (await lab.Domain.ExecAsync("cat /run/memory")).EnsureSuccess());
        await lab.AssertCleanAsync();
    }

    [Fact]
    public async Task An_unknown_outcome_keeps_both_points_until_it_is_known()
    {
        await using var lab = await LibvirtLab.BootAsync();
        var (first, second, third) = (LibvirtLab.NewPoint(), LibvirtLab.NewPoint(), LibvirtLab.NewPoint());
        await lab.BackUpAsync(first);
        await lab.WriteAsync("/data/a", 200);
        var (capture, reference) = await lab.CutWithReferenceAsync(lab.Request(second, first));
        await lab.ReadAsync(capture);
        lab.AssertContent(reference);
        await capture.DetachAsync(default);
        await capture.DisposeAsync();
        await lab.AssertCleanAsync();
        Assert.Equal(new[] { first, second }.Order(), (await lab.Driver.ListTrackedPointsAsync(lab.Machine, default)).Order());
        await lab.WriteAsync("/data/b", 200);
        var (_, reasons) = await lab.BackUpAsync(third, first, second);
        Assert.All(reasons.Values, reason => Assert.Equal("changed blocks only", reason));
        Assert.Equal([$"virtbackup-{third}"], await lab.CheckpointsAsync());
    }

    [Fact]
    public async Task A_guest_that_was_shut_down_is_read_by_changes_and_goes_on_with_its_tracking()
    {
        await using var lab = await LibvirtLab.BootAsync();
        var (first, off, third) = (LibvirtLab.NewPoint(), LibvirtLab.NewPoint(), LibvirtLab.NewPoint());
        await lab.BackUpAsync(first);
        await lab.WriteAsync("/data/a", 200);
        await lab.Libvirt.VirshAsync("destroy", "lab");
        Assert.Equal(first, await lab.Driver.SettleAsync(lab.Machine, new HashSet<Id16> { first }, default));
        await using (var capture = await lab.Driver.BeginCaptureAsync(lab.Request(off, first), default))
        {
            Assert.All(capture.Disks, disk => Assert.Equal("changed blocks only", disk.Reason));
            await lab.ReadAsync(capture);
            await capture.CommitAsync(default);
        }
        await lab.Domain.BootAsync();
        var (_, reasons) = await lab.BackUpAsync(third, first, off);
        Assert.All(reasons.Values, reason => Assert.Equal("changed blocks only", reason));
        Assert.Equal([$"virtbackup-{third}"], await lab.CheckpointsAsync());
    }
}
