using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Libvirt;

/// <summary>What happens to a machine between two captures, and which disks are read by changes after it.</summary>
public class TrackingTests
{
    private const string Changes = "changed blocks only";

    [Fact]
    public async Task Overlays_disks_and_lengths_may_change_between_captures()
    {
        await using var lab = await LibvirtLab.BootAsync();
        var points = Enumerable.Range(0, 6).Select(_ => LibvirtLab.NewPoint()).ToArray();
        await lab.BackUpAsync(points[0]);

        // Overlays on both disks, written to: libvirt carries the bitmaps.
        await lab.WriteAsync("/data/below", 100);
        await lab.Libvirt.VirshAsync("snapshot-create-as", "lab", "over", "--disk-only", "--no-metadata");
        await lab.WriteAsync("/data/above", 100);
        var (_, reasons) = await lab.BackUpAsync(points[1], points[..1]);
        Assert.Equal((Changes, Changes), (reasons["vda"], reasons["vdb"]));

        // One of them committed into the image below it.
        await lab.WriteAsync("/data/committed", 100);
        await lab.Libvirt.VirshAsync("blockcommit", "lab", "vdb", "--active", "--pivot", "--wait");
        await lab.WriteAsync("/data/after", 100);
        (_, reasons) = await lab.BackUpAsync(points[2], points[..2]);
        Assert.Equal((Changes, Changes), (reasons["vda"], reasons["vdb"]));

        // A disk more, and one that grew.
        await LabDisk.CreateAsync(lab.Libvirt.File("more.qcow2"), LabDiskFormat.Qcow2, 8 << 20);
        await lab.Libvirt.GiveAsync(lab.Libvirt.File("more.qcow2"));
        await lab.Libvirt.VirshAsync("attach-disk", "lab", lab.Libvirt.File("more.qcow2"), "vdc", "--driver", "qemu", "--subdriver", "qcow2", "--live");
        await lab.Libvirt.VirshAsync("blockresize", "lab", "vdb", "160M");
        (_, reasons) = await lab.BackUpAsync(points[3], points[..3]);
        Assert.Equal(Changes, reasons["vda"]);
        Assert.Contains("resized from 100663296 to 167772160", reasons["vdb"], StringComparison.Ordinal);
        Assert.Contains("not part of the last recovery point", reasons["vdc"], StringComparison.Ordinal);

        // The disk goes again; its checkpoint can no longer be deleted in one piece.
        await lab.Libvirt.VirshAsync("detach-disk", "lab", "vdc", "--live");
        await Task.Delay(500);
        (_, reasons) = await lab.BackUpAsync(points[4], points[..4]);
        Assert.Equal((Changes, Changes), (reasons["vda"], reasons["vdb"]));
        Assert.False(reasons.ContainsKey("vdc"));
        Assert.Equal([$"virtbackup-{points[4]}"], await lab.CheckpointsAsync());

        // Another image of the same length behind the device.
        await lab.Libvirt.VirshAsync("destroy", "lab");
        var (path, _) = await lab.ImageAsync("vdb");
        File.Copy(path, lab.Libvirt.File("other.qcow2"));
        await lab.Libvirt.GiveAsync(lab.Libvirt.File("other.qcow2"));
        var xml = (await lab.Libvirt.VirshAsync("dumpxml", "lab", "--inactive")).Replace(path, lab.Libvirt.File("other.qcow2"), StringComparison.Ordinal);
        await lab.Domain.DefineAsync(xml);
        await lab.Domain.BootAsync();
        (_, reasons) = await lab.BackUpAsync(points[5], points[..5]);
        Assert.Equal(Changes, reasons["vda"]);
        Assert.Contains("another image was attached", reasons["vdb"], StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_killed_machine_is_read_in_full_and_its_broken_bitmaps_go()
    {
        await using var lab = await LibvirtLab.BootAsync();
        var (first, second, third) = (LibvirtLab.NewPoint(), LibvirtLab.NewPoint(), LibvirtLab.NewPoint());
        await lab.BackUpAsync(first);
        // A clean end stores the bitmaps; the kill after it makes them inconsistent.
        await lab.Libvirt.VirshAsync("destroy", "lab");
        await lab.Domain.BootAsync();
        await lab.Domain.KillAsync();
        await lab.Domain.BootAsync();
        var (_, reasons) = await lab.BackUpAsync(second, first);
        Assert.Contains("not shut down cleanly", reasons["vda"], StringComparison.Ordinal);
        Assert.Equal([$"virtbackup-{second}"], await lab.CheckpointsAsync());
        await lab.WriteAsync("/data/x", 100);
        (_, reasons) = await lab.BackUpAsync(third, first, second);
        Assert.Equal((Changes, Changes), (reasons["vda"], reasons["vdb"]));
        await lab.Libvirt.VirshAsync("destroy", "lab");
        Assert.Equal([$"virtbackup-{third}"], await BitmapsAsync(lab, "vda"));
    }

    [Fact]
    public async Task A_machine_that_was_defined_anew_under_another_name_is_the_same_and_its_orphaned_bitmaps_go()
    {
        await using var lab = await LibvirtLab.BootAsync();
        var (first, second) = (LibvirtLab.NewPoint(), LibvirtLab.NewPoint());
        await lab.BackUpAsync(first);
        await lab.Libvirt.VirshAsync("destroy", "lab");
        var xml = await lab.Libvirt.VirshAsync("dumpxml", "lab", "--inactive");
        await lab.Libvirt.VirshAsync("undefine", "lab", "--checkpoints-metadata");
        var renamed = lab.Libvirt.File("renamed.xml");
        await File.WriteAllTextAsync(renamed, xml.Replace("<name>lab</name>", "<name>other</name>", StringComparison.Ordinal));
        await lab.Libvirt.VirshAsync("define", renamed);
        await lab.Libvirt.VirshAsync("start", "other");
        var machine = Assert.Single(await lab.Driver.ListMachinesAsync(default));
        Assert.Equal(("other", lab.Machine), (machine.Name, machine.Id));
        Assert.Null(await lab.Driver.SettleAsync(lab.Machine, new HashSet<Core.Id16> { first }, default));
        await using (var capture = await lab.Driver.BeginCaptureAsync(lab.Request(second, first), default))
        {
            Assert.All(capture.Disks, disk => Assert.Contains("its checkpoint is gone", disk.Reason, StringComparison.Ordinal));
            await capture.CommitAsync(default);
        }
        await lab.Libvirt.VirshAsync("destroy", "other");
        var path = System.Xml.Linq.XElement.Parse(xml).Descendants("source").First(source => source.Attribute("file") is not null).Attribute("file")!.Value;
        Assert.Equal([$"virtbackup-{second}"], await BitmapsOfAsync(path));
    }

    [Fact]
    public async Task Another_tools_checkpoint_and_job_are_left_alone()
    {
        await using var lab = await LibvirtLab.BootAsync();
        var (first, second) = (LibvirtLab.NewPoint(), LibvirtLab.NewPoint());
        await lab.BackUpAsync(first);
        await lab.Libvirt.VirshAsync("checkpoint-create-as", "lab", "virtnbdbackup.0");
        await lab.WriteAsync("/data/x", 100);
        var (_, reasons) = await lab.BackUpAsync(second, first);
        Assert.Equal((Changes, Changes), (reasons["vda"], reasons["vdb"]));
        Assert.Equal(new[] { "virtnbdbackup.0", $"virtbackup-{second}" }.Order(), (await lab.CheckpointsAsync()).Order());

        var job = lab.Libvirt.File("job.xml");
        await File.WriteAllTextAsync(job, $"<domainbackup mode='pull'><server transport='unix' socket='{lab.Libvirt.File("theirs.sock")}'/></domainbackup>");
        await lab.Libvirt.VirshAsync("backup-begin", "lab", job);
        var fault = await Assert.ThrowsAsync<Core.FaultException>(async () => await lab.Driver.BeginCaptureAsync(lab.Request(LibvirtLab.NewPoint(), second), default));
        Assert.Equal(Core.FaultReason.FailedPrecondition, fault.Reason);
        Assert.Contains("theirs.sock", fault.Message, StringComparison.Ordinal);
        await lab.Driver.ReleaseGuestsAsync(default);
        Assert.Equal(second, await lab.Driver.SettleAsync(lab.Machine, new HashSet<Core.Id16> { first, second }, default));
        await lab.Libvirt.VirshAsync("backup-dumpxml", "lab"); // it runs still
    }

    [Fact]
    public async Task What_a_killed_agent_left_is_ended_and_the_daemons_death_is_survived()
    {
        await using var lab = await LibvirtLab.BootAsync();
        var (first, lost, third) = (LibvirtLab.NewPoint(), LibvirtLab.NewPoint(), LibvirtLab.NewPoint());
        await lab.BackUpAsync(first);
        // Never ended: as if its process were gone.
        var leftover = await lab.Driver.BeginCaptureAsync(lab.Request(lost, first), default);
        await lab.Domain.ExecAsync("sync");
        lab.NewDriver();
        await lab.Driver.ReleaseGuestsAsync(default);
        await lab.AssertCleanAsync();
        await lab.WriteAsync("/data/x", 100);

        var (_, reasons) = await lab.BackUpAsync(third, first);
        Assert.Equal((Changes, Changes), (reasons["vda"], reasons["vdb"]));
        await leftover.DetachAsync(default);

        var capture = await lab.Driver.BeginCaptureAsync(lab.Request(LibvirtLab.NewPoint(), third), default);
        await lab.Libvirt.KillDaemonAsync();
        await lab.ReadAsync(capture); // from QEMU, which lives on
        await lab.Libvirt.StartDaemonAsync();
        await capture.AbandonAsync(default);
        await lab.AssertCleanAsync();
        Assert.Equal([$"virtbackup-{third}"], await lab.CheckpointsAsync());
    }

    [Fact]
    public async Task A_fleece_folder_that_runs_full_costs_the_capture_and_never_a_guests_write()
    {
        Assert.SkipUnless(Environment.UserName == "root", "Mounting a small file system takes root.");
        await using var lab = await LibvirtLab.BootAsync();
        Directory.CreateDirectory(lab.Fleece);
        await Proc.CheckAsync("mount", ["-t", "tmpfs", "-o", "size=64m,mode=0755", "virtbackup-test", lab.Fleece]);
        try
        {
            lab.Options = lab.Options with { FleeceFreeBytesMin = 24 << 20 };
            // What is overwritten must have been something: zeros take no space when they are copied.
            await lab.WriteAsync("/data/big", 80 << 10);
            await using var capture = await lab.NewDriver().BeginCaptureAsync(lab.Request(LibvirtLab.NewPoint()), default);
            var written = await lab.Domain.ExecAsync("dd if=/dev/urandom of=/data/big bs=64k count=1280 conv=notrunc,fsync 2>&1; echo code $?; dmesg | grep -ic 'i/o error'");
            Assert.Contains("code 0", written.Stdout, StringComparison.Ordinal);
            Assert.EndsWith("0", written.Stdout.Trim(), StringComparison.Ordinal);
            var fault = await Assert.ThrowsAsync<Core.FaultException>(async () => await lab.ReadAsync(capture));
            Assert.Equal(Core.FaultReason.SnapshotLost, fault.Reason);
            Assert.Contains("MiB free", fault.Message, StringComparison.Ordinal);
            await capture.AbandonAsync(default);
            Assert.Empty(await lab.CheckpointsAsync());
            await lab.AssertCleanAsync();
        }
        finally
        {
            await Proc.RunAsync("umount", [lab.Fleece]);
        }
    }

    private static async Task<string[]> BitmapsAsync(LibvirtLab lab, string target) => await BitmapsOfAsync((await lab.ImageAsync(target)).Path);

    internal static async Task<string[]> BitmapsOfAsync(string path)
    {
        using var info = System.Text.Json.JsonDocument.Parse(await Proc.CheckAsync("qemu-img", ["info", "--output=json", "-f", "qcow2", path]));
        var data = info.RootElement.GetProperty("format-specific").GetProperty("data");
        return data.TryGetProperty("bitmaps", out var bitmaps) ? [.. bitmaps.EnumerateArray().Select(bitmap => bitmap.GetProperty("name").GetString()!)] : [];
    }
}
