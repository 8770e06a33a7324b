using VirtBackup.Core;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Qemu;

public sealed class CaptureTests
{
    [Fact]
    public async Task A_chain_of_captures_holds_every_write_up_to_its_cut_and_none_after_it()
    {
        await using var lab = await CaptureLab.BootAsync();
        var first = CaptureLab.NewPoint();
        var full = await lab.BackUpAsync(first);
        await lab.AssertCleanAsync();
        Assert.Equal([first], await lab.Driver.ListTrackedPointsAsync(lab.Machine.Uuid, default));

        await lab.WriteAsync("/data/a", 2000);
        await lab.WriteAsync("/root/a", 500);
        var plan = await lab.Driver.PlanCaptureAsync(lab.Request(CaptureLab.NewPoint(), first), default);
        Assert.All(plan.Disks, disk => Assert.True(disk.ChangedOnly));
        var second = CaptureLab.NewPoint();
        var (capture, reference) = await lab.CutWithReferenceAsync(lab.Request(second, first));
        await using (capture)
        {
            Assert.Equal(CaptureConsistency.Crash, capture.Consistency); // it was paused, for the reference
            Assert.All(capture.Disks, disk => Assert.True(disk.ChangedOnly));
            await lab.WriteAsync("/data/a", 3000);
            await lab.Vm.ExecAsync("rm /root/a; dd if=/dev/urandom of=/root/b bs=1k count=900 2>/dev/null; sync; fstrim /data 2>/dev/null; true");
            await lab.Vm.QmpAsync("system_reset");
            var changed = await lab.ReadAsync(capture);
            Assert.InRange(changed, 2500 << 10, full / 2);
            Assert.InRange(plan.Disks.Sum(disk => disk.ReadBytes), 2500 << 10, changed + (1 << 20));
            lab.AssertContent(reference);
            await capture.CommitAsync(default);
            await capture.CommitAsync(default);
        }
        Assert.Equal([second], await lab.Driver.ListTrackedPointsAsync(lab.Machine.Uuid, default));
        await lab.AssertCleanAsync();
        await lab.Vm.WaitForAgentAsync();
        await lab.BackUpAsync(CaptureLab.NewPoint(), second);
        Assert.DoesNotContain("I/O error", lab.Vm.Console, StringComparison.OrdinalIgnoreCase);
    }

    [Fact]
    public async Task A_limited_view_grants_the_ranges_that_were_asked_for()
    {
        const int mebibyte = 1 << 20;
        await using var lab = await CaptureLab.StartAsync(new LabVmOptions
        {
            Disks = [new LabDiskOptions { NodeName = "data", Size = 8 * mebibyte }], ExtraArguments = ["-S"],
        });
        async Task FillAsync(int pattern, int offset, int length) => Assert.Equal("", (await lab.Vm.QmpAsync("human-monitor-command",
            $$"""{"command-line":"qemu-io -d /machine/peripheral/disk-data/virtio-backend \"write -P {{pattern}} {{offset}} {{length}}\""}""")).GetString());
        static async Task<byte[]> ReadAsync(ICapturedDisk disk, long offset)
        {
            var bytes = new byte[mebibyte];
            await disk.ReadAsync(offset, bytes, default);
            return bytes;
        }
        var first = CaptureLab.NewPoint();
        await FillAsync(1, 0, 8 * mebibyte);
        await lab.BackUpAsync(first);
        await FillAsync(2, mebibyte, mebibyte);

        var id = (await lab.Driver.ListMachinesAsync(default))[0].Disks[0].Id;
        var request = lab.Request(CaptureLab.NewPoint(), first) with { AlsoReadable = new Dictionary<Id16, IReadOnlyList<ByteRange>> { [id] = [new(3 * mebibyte, mebibyte), new(7 * mebibyte, mebibyte)] } };
        await using (var unlimited = await lab.Driver.BeginCaptureAsync(request, default))
        {
            Assert.Equal(ReadReach.Everything, unlimited.Disks[0].Reach);
        }
        lab.Options = lab.Options with { FleeceListedExtentsOnly = true };
        await using (var bare = await lab.Driver.BeginCaptureAsync(request with { AlsoReadable = new Dictionary<Id16, IReadOnlyList<ByteRange>>() }, default))
        {
            Assert.Equal(ReadReach.ListedExtents, bare.Disks[0].Reach);
        }
        await lab.AssertCleanAsync();
        await using (var capture = await lab.Driver.BeginCaptureAsync(request, default))
        {
            var disk = capture.Disks[0];
            Assert.Equal((ReadReach.AskedRanges, true), (disk.Reach, disk.ChangedOnly));
            // What the guest overwrites behind the cut is still seen as it was.
            await FillAsync(3, 0, 8 * mebibyte);
            Assert.All(await ReadAsync(disk, mebibyte), value => Assert.Equal(2, value));
            Assert.All(await ReadAsync(disk, 3 * mebibyte), value => Assert.Equal(1, value));
            Assert.All(await ReadAsync(disk, 7 * mebibyte), value => Assert.Equal(1, value));
            await Assert.ThrowsAsync<FaultException>(() => ReadAsync(disk, 5 * mebibyte));
            await capture.CommitAsync(default);
        }
        await lab.AssertCleanAsync();

        // Broken off with everything in place: the limit goes with the rest.
        request = lab.Request(CaptureLab.NewPoint(), request.Point) with { AlsoReadable = request.AlsoReadable };
        _ = await lab.Driver.BeginCaptureAsync(request, default);
        await lab.Driver.SettleAsync(lab.Machine.Uuid, new HashSet<Id16> { request.Base!.Value }, default);
        await lab.AssertCleanAsync();
    }

    [Fact]
    public async Task What_an_abandoned_or_broken_off_run_saw_is_in_the_next_increment()
    {
        await using var lab = await CaptureLab.BootAsync();
        var first = CaptureLab.NewPoint();
        await lab.BackUpAsync(first);
        var kept = lab.Keep();

        // Abandoned.
        await lab.WriteAsync("/data/a", 700);
        await using (var capture = await lab.Driver.BeginCaptureAsync(lab.Request(CaptureLab.NewPoint(), first), default))
        {
            Assert.Equal(CaptureConsistency.Filesystem, capture.Consistency);
            Assert.Contains("2 file systems were frozen for", capture.ConsistencyDetail, StringComparison.Ordinal);
            await lab.WriteAsync("/root/b", 700);
            await lab.ReadAsync(capture);
        }
        await lab.AssertCleanAsync();
        Assert.Equal([first], await lab.Driver.ListTrackedPointsAsync(lab.Machine.Uuid, default));

        // Broken off: the agent dies with everything in place, QEMU goes on.
        var lost = CaptureLab.NewPoint();
        _ = await lab.Driver.BeginCaptureAsync(lab.Request(lost, first), default);
        await lab.WriteAsync("/data/c", 700);
        Assert.Equivalent(new[] { first, lost }, await lab.Driver.ListTrackedPointsAsync(lab.Machine.Uuid, default));
        var early = await Assert.ThrowsAsync<FaultException>(async () => await lab.Driver.BeginCaptureAsync(lab.Request(CaptureLab.NewPoint(), first), default));
        Assert.Equal(FaultReason.FailedPrecondition, early.Reason);
        Assert.Equal(first, await lab.Driver.SettleAsync(lab.Machine.Uuid, new HashSet<Id16> { first }, default));
        Assert.Equal(first, await lab.Driver.SettleAsync(lab.Machine.Uuid, new HashSet<Id16> { first }, default));
        await lab.AssertCleanAsync();
        lab.GoBack(kept);
        var second = CaptureLab.NewPoint();
        await lab.BackUpAsync(second, first);

        // Left with the outcome unknown; the point turns out to be durable.
        var third = CaptureLab.NewPoint();
        await lab.WriteAsync("/data/d", 700);
        await using (var capture = await lab.Driver.BeginCaptureAsync(lab.Request(third, second), default))
        {
            await lab.ReadAsync(capture);
            await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await capture.CommitAsync(new CancellationToken(canceled: true)));
            await capture.DetachAsync(default);
        }
        await lab.AssertCleanAsync();
        Assert.Equivalent(new[] { second, third }, await lab.Driver.ListTrackedPointsAsync(lab.Machine.Uuid, default));
        await lab.WriteAsync("/data/e", 700);
        Assert.Equal(third, await lab.Driver.SettleAsync(lab.Machine.Uuid, new HashSet<Id16> { first, second, third }, default));
        Assert.Equal([third], await lab.Driver.ListTrackedPointsAsync(lab.Machine.Uuid, default));
        await lab.BackUpAsync(CaptureLab.NewPoint(), third);

        // Killed while the guest was stopped for the cut: the guest goes on.
        var mark = Directory.CreateDirectory(Path.Combine(lab.Options.FleeceFolder, Hypervisors.Qemu.CaptureNames.Folder(lab.Machine.Uuid, lost)));
        await File.WriteAllBytesAsync(Path.Combine(mark.FullName, Hypervisors.Guests.FreezeMarks.Stopped), []);
        await lab.Vm.QmpAsync("stop");
        await lab.Driver.SettleAsync(lab.Machine.Uuid, new HashSet<Id16>(), default);
        Assert.Equal("running", (await lab.Vm.QmpAsync("query-status")).GetProperty("status").GetString());
        await lab.AssertCleanAsync();
    }

    [Fact]
    public async Task Restarts_cost_a_full_read_only_where_tracking_was_lost()
    {
        await using var lab = await CaptureLab.BootAsync();
        var first = CaptureLab.NewPoint();
        await lab.BackUpAsync(first);
        await lab.WriteAsync("/root/a", 300);
        await lab.Vm.QuitAsync();
        await lab.Vm.StartAgainAsync();
        await lab.Vm.WaitForAgentAsync();
        Assert.Equal(first, await lab.Driver.SettleAsync(lab.Machine.Uuid, new HashSet<Id16> { first }, default));

        // A clean end in the middle of a run: qcow2 keeps both bitmaps, raw none.
        var cut = CaptureLab.NewPoint();
        var capture = await lab.Driver.BeginCaptureAsync(lab.Request(cut, first), default);
        Assert.Equal([true, false], capture.Disks.Select(disk => disk.ChangedOnly));
        Assert.Contains("cannot keep change tracking", capture.Disks[1].Reason, StringComparison.Ordinal);
        await lab.WriteAsync("/root/b", 300);
        await lab.Vm.QuitAsync();
        Assert.Equal(FaultReason.HypervisorUnavailable,
            (await Assert.ThrowsAsync<FaultException>(async () => await capture.Disks[0].ReadAsync(0, new byte[4096], default))).Reason);
        Assert.Equal(FaultReason.HypervisorUnavailable, (await Assert.ThrowsAsync<FaultException>(async () => await capture.AbandonAsync(default))).Reason);
        await capture.DisposeAsync();
        await lab.Vm.StartAgainAsync();
        await lab.Vm.WaitForAgentAsync();
        Assert.Equal(first, await lab.Driver.SettleAsync(lab.Machine.Uuid, new HashSet<Id16> { first }, default));
        await lab.AssertCleanAsync();
        var second = CaptureLab.NewPoint();
        await lab.BackUpAsync(second, first);

        // A kill leaves a bitmap that the qcow2 image held inconsistent.
        await lab.Vm.QuitAsync();
        await lab.Vm.StartAgainAsync();
        Assert.Equal(second, await lab.Driver.SettleAsync(lab.Machine.Uuid, new HashSet<Id16> { first, second }, default));
        await lab.Vm.KillAsync();
        await lab.Vm.StartAgainAsync();
        Assert.Null(await lab.Driver.SettleAsync(lab.Machine.Uuid, new HashSet<Id16> { first, second }, default));
        var third = CaptureLab.NewPoint();
        await using (var after = await lab.Driver.BeginCaptureAsync(lab.Request(third), default))
        {
            Assert.All(after.Disks, disk => Assert.False(disk.ChangedOnly));
            Assert.Contains("inconsistent", after.Disks[0].Reason, StringComparison.Ordinal);
            await after.CommitAsync(default);
        }
        Assert.Equal([third], await lab.Driver.ListTrackedPointsAsync(lab.Machine.Uuid, default));

        // Resized while the machine was off.
        await lab.Vm.QuitAsync();
        await Proc.CheckAsync("qemu-img", ["resize", "-q", lab.Vm.Disk("root").Path, "+1M"]);
        await lab.Vm.StartAgainAsync();
        var settled = await lab.Driver.SettleAsync(lab.Machine.Uuid, new HashSet<Id16> { third }, default);
        Assert.Null(settled);
        var plan = await lab.Driver.PlanCaptureAsync(lab.Request(CaptureLab.NewPoint(), third), default);
        Assert.Contains("resized", plan.Disks[0].Reason, StringComparison.Ordinal);
        await lab.Vm.WaitForAgentAsync();
        await lab.BackUpAsync(CaptureLab.NewPoint(), settled);
    }

    [Fact]
    public async Task A_full_fleece_folder_costs_the_run_and_never_the_guest()
    {
        Assert.SkipUnless(Environment.UserName == "root", "Mounting a small file system needs root.");
        using var folder = new LabDirectory();
        await Proc.CheckAsync("mount", ["-t", "tmpfs", "-o", "size=5m", "virtbackup-test", folder.Path]);
        try
        {
            await using var lab = await CaptureLab.BootAsync();
            await lab.Vm.ExecAsync("dd if=/dev/urandom of=/data/big bs=1M count=12 2>/dev/null; sync");
            var first = CaptureLab.NewPoint();
            await lab.BackUpAsync(first);
            var kept = lab.Keep();
            var roomy = lab.Options;
            lab.Options = roomy with { FleeceFolder = folder.Path, FleeceFreeBytesMin = 64L << 20 };
            Assert.Equal(FaultReason.DeviceFull,
                (await Assert.ThrowsAsync<FaultException>(async () => await lab.Driver.BeginCaptureAsync(lab.Request(CaptureLab.NewPoint(), first), default))).Reason);

            lab.Options = roomy with { FleeceFolder = folder.Path, FleeceFreeBytesMin = 1 << 20 };
            await using (var capture = await lab.Driver.BeginCaptureAsync(lab.Request(CaptureLab.NewPoint()), default))
            {
                var overwrite = await lab.Vm.ExecAsync("dd if=/dev/urandom of=/data/big bs=1M count=12 conv=notrunc 2>&1 && sync");
                Assert.Equal(0, overwrite.ExitCode);
                var fault = await Assert.ThrowsAsync<FaultException>(async () => await lab.ReadAsync(capture));
                Assert.Equal(FaultReason.SnapshotLost, fault.Reason);
                await capture.AbandonAsync(default);
                await capture.AbandonAsync(default);
            }
            await lab.AssertCleanAsync();
            Assert.Equal("0\n", (await lab.Vm.ExecAsync("dmesg | grep -ciE 'i/o error|aborting|remount' ; true")).Stdout);
            lab.Options = roomy;
            lab.GoBack(kept);
            await lab.BackUpAsync(CaptureLab.NewPoint(), first);
        }
        finally
        {
            await Proc.CheckAsync("umount", ["-l", folder.Path]);
        }
    }
}
