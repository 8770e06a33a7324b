using VirtBackup.Core;
using VirtBackup.Hypervisors.Libvirt;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Libvirt;

/// <summary>What the driver finds, and how it bears the loss of what it talks to.</summary>
public class DiscoveryTests
{
    [Fact]
    public async Task Disks_of_all_kinds_are_listed_with_the_reason_why_one_is_left_out()
    {
        await using var lab = await LibvirtLab.DefineAsync(extraDisks: async libvirt =>
        {
            foreach (var name in new[] { "ro.img", "shared.img", "cd.iso", "floppy.img", "temp.img" })
            {
                await LabDisk.CreateAsync(libvirt.File(name), LabDiskFormat.Raw, 1 << 20);
                await libvirt.GiveAsync(libvirt.File(name));
            }
            return LabLibvirt.DiskXml("vdc", libvirt.File("ro.img"), LabDiskFormat.Raw, extra: "<readonly/>")
                + LabLibvirt.DiskXml("vdd", libvirt.File("shared.img"), LabDiskFormat.Raw, extra: "<shareable/>")
                + $"<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='{libvirt.File("cd.iso")}'/><target dev='sda' bus='sata'/><readonly/></disk>"
                + "<disk type='file' device='cdrom'><target dev='sdb' bus='sata'/><readonly/></disk>"
                + $"<disk type='file' device='floppy'><driver name='qemu' type='raw'/><source file='{libvirt.File("floppy.img")}'/><target dev='fda' bus='fdc'/></disk>"
                + "<disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='rbd' name='pool/volume'><host name='127.0.0.1' port='6789'/></source><target dev='vde' bus='virtio'/></disk>"
                + "<disk type='block' device='lun'><driver name='qemu' type='raw'/><source dev='/dev/sg-none'/><target dev='sdc' bus='scsi'/></disk>"
                + "<controller type='scsi' index='0' model='virtio-scsi'/>"
                + "<hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host0'/><address bus='0' target='0' unit='7'/></source></hostdev>";
        });
        var machine = Assert.Single(await lab.Driver.ListMachinesAsync(default));
        Assert.Equal("lab", machine.Name);
        Assert.Equal(lab.Machine, machine.Id);
        Assert.False(machine.Running);
        Assert.Null(machine.Problem);
        var skipped = machine.Disks.ToDictionary(disk => disk.Name, disk => disk.SkipReason);
        Assert.Null(skipped["vda"]);
        Assert.Null(skipped["vdb"]);
        Assert.Contains("read-only", skipped["vdc"], StringComparison.Ordinal);
        Assert.Contains("shared", skipped["vdd"], StringComparison.Ordinal);
        Assert.Contains("CD-ROM", skipped["sda"], StringComparison.Ordinal);
        Assert.Contains("CD-ROM", skipped["sdb"], StringComparison.Ordinal);
        Assert.Contains("floppy", skipped["fda"], StringComparison.Ordinal);
        Assert.Contains("network disk (rbd)", skipped["vde"], StringComparison.Ordinal);
        Assert.Contains("passthrough", skipped["sdc"], StringComparison.Ordinal);
        Assert.Contains("SCSI host device", skipped["hostdev0"], StringComparison.Ordinal);
        // A disk that cannot be read is no reason to leave it out, but one to say so.
        var (image, _) = await lab.ImageAsync("vdb");
        File.Move(image, image + ".away");
        Assert.Contains("Disk vdb cannot be read by libvirt", Assert.Single(await lab.Driver.ListMachinesAsync(default)).Problem, StringComparison.Ordinal);
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await lab.Driver.BeginCaptureAsync(lab.Request(LibvirtLab.NewPoint()), default));
        Assert.Contains("Disk vdb", fault.Message, StringComparison.Ordinal);
        Assert.Equal(64 << 20, machine.Disks.Single(disk => disk.Name == "vda").LengthBytes);
    }

    [Fact]
    public async Task A_daemon_that_dies_is_told_and_one_that_is_back_is_used_again()
    {
        await using var lab = await LibvirtLab.DefineAsync();
        Assert.Null(Assert.Single(await lab.Driver.ListMachinesAsync(default)).Problem);
        await lab.Libvirt.KillDaemonAsync();
        var machine = Assert.Single(await lab.Driver.ListMachinesAsync(default));
        Assert.Contains("cannot be reached", machine.Problem, StringComparison.Ordinal);
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await lab.Driver.BeginCaptureAsync(lab.Request(LibvirtLab.NewPoint()), default));
        Assert.Equal(FaultReason.HypervisorUnavailable, fault.Reason);
        await lab.Libvirt.StartDaemonAsync();
        Assert.Null(Assert.Single(await lab.Driver.ListMachinesAsync(default)).Problem);

        lab.Options = lab.Options with { CallTimeout = TimeSpan.FromSeconds(1) };
        Assert.Single(await lab.NewDriver().ListMachinesAsync(default));
        await Proc.CheckAsync("kill", ["-STOP", $"{lab.Libvirt.Pid}"]);
        Assert.Contains("did not answer within 1 s", Assert.Single(await lab.Driver.ListMachinesAsync(default)).Problem, StringComparison.Ordinal);
        await Proc.CheckAsync("kill", ["-CONT", $"{lab.Libvirt.Pid}"]);
        lab.Options = lab.Options with { CallTimeout = TimeSpan.FromSeconds(60) };
        Assert.Null(Assert.Single(await lab.NewDriver().ListMachinesAsync(default)).Problem);
    }

    [Fact]
    public async Task A_connection_that_fails_does_not_hide_another_ones_machines()
    {
        await using var lab = await LibvirtLab.DefineAsync();
        lab.Options = lab.Options with { Uris = ["qemu+unix:///session?socket=/nonexistent", lab.Libvirt.Uri], Exclude = new HashSet<string> { "other" } };
        Assert.Single(await lab.NewDriver().ListMachinesAsync(default));
        lab.Options = lab.Options with { Exclude = new HashSet<string> { "lab" } };
        Assert.Empty(await lab.NewDriver().ListMachinesAsync(default));
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await lab.Driver.PlanCaptureAsync(lab.Request(LibvirtLab.NewPoint()), default));
        Assert.Equal(FaultReason.HypervisorUnavailable, fault.Reason);
    }

    [Theory]
    [InlineData("qemu+ssh://host/system", "is not a URI")]
    [InlineData("qemu://host/system", "another host")]
    [InlineData("xen:///system", "is not a URI")]
    [InlineData("nonsense", "is not a URI")]
    public void A_connection_to_elsewhere_is_refused(string uri, string said) =>
        Assert.Contains(said, LibvirtUri.ProblemOf(uri), StringComparison.Ordinal);
}
