using System.Text;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Tests.Libvirt;

/// <summary>Restores into a private libvirtd.</summary>
public class LibvirtRestoreTests
{
    [Fact]
    public async Task A_machine_that_was_undefined_is_restored_and_boots_with_its_files()
    {
        await using var lab = await LibvirtLab.BootAsync();
        (await lab.Domain.ExecAsync("echo marker > /root/marker && echo data > /data/marker && sync")).EnsureSuccess();
        var point = LibvirtLab.NewPoint();
        await using var capture = await lab.Driver.BeginCaptureAsync(lab.Request(point), default);
        await lab.ReadAsync(capture);
        await capture.CommitAsync(default);
        var folder = lab.Libvirt.File("restored");

        // While the original is there, only a copy may come.
        var keep = lab.RestoreRequest(capture, point, folder, "lab") with { KeepIdentity = true };
        var refused = await Assert.ThrowsAsync<FaultException>(async () => await lab.Driver.BeginRestoreAsync(keep, default));
        Assert.Contains("already has a machine called lab", refused.Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(folder));
        var blocked = await lab.Driver.CheckRestoreAsync(keep with { Name = "another" }, default);
        Assert.Contains(blocked, finding => finding is { Item: "identity", Severity: FindingSeverity.Blocks });

        var copy = await lab.RestoreAsync(lab.RestoreRequest(capture, point, lab.Libvirt.File("copy"), "copy"));
        Assert.True(copy.Running);
        Assert.NotEqual(lab.Machine, copy.Id);
        var both = await lab.Driver.ListMachinesAsync(default);
        Assert.Equal(["copy", "lab"], both.Where(machine => machine.Running).Select(machine => machine.Name).Order());
        Assert.Equal("marker\n", Encoding.UTF8.GetString(await LibvirtLab.ReadFileAsync(lab.Libvirt.File("copy/lab.qga"), "/root/marker")));
        await lab.Libvirt.VirshAsync("destroy", "copy");

        await lab.Libvirt.VirshAsync("destroy", "lab");
        await lab.Libvirt.VirshAsync("undefine", "lab", "--checkpoints-metadata");
        var restored = await lab.RestoreAsync(keep);
        Assert.Equal(lab.Machine, restored.Id);
        // Read back from libvirt: the same machine, with its disks elsewhere.
        var disks = restored.Description!.Value.GetProperty("disks").EnumerateArray().ToList();
        Assert.All(disks, disk => Assert.StartsWith(keep.Folder, disk.GetProperty("source").GetProperty("file").GetString(), StringComparison.Ordinal));
        Assert.Equal(restored.CapturedDescription!.Value.GetProperty("interface").GetRawText(), restored.Description.Value.GetProperty("interface").GetRawText());
        Assert.Equal("data\n", Encoding.UTF8.GetString(await LibvirtLab.ReadFileAsync(Path.Combine(folder, "lab.qga"), "/data/marker")));
    }

    [Fact]
    public async Task What_this_host_lacks_is_told_before_a_byte_moves_and_a_failed_start_leaves_nothing()
    {
        await using var lab = await LibvirtLab.DefineAsync();
        var point = LibvirtLab.NewPoint();
        await using var capture = await lab.Driver.BeginCaptureAsync(lab.Request(point), default);
        await lab.ReadAsync(capture);
        var request = lab.RestoreRequest(capture, point, lab.Libvirt.File("restored"), "copy");
        var xml = Encoding.UTF8.GetString(capture.Configuration.Native.Span);

        async Task<IReadOnlyList<RestoreFinding>> CheckAsync(string from, string to) =>
            await lab.Driver.CheckRestoreAsync(request with { Configuration = capture.Configuration with { Native = Encoding.UTF8.GetBytes(xml.Replace(from, to, StringComparison.Ordinal)) } }, default);

        Assert.DoesNotContain(await lab.Driver.CheckRestoreAsync(request, default), finding => finding.Severity == FindingSeverity.Blocks);
        Assert.Contains(await CheckAsync("machine='pc-q35", "machine='pc-none"), finding => finding is { Item: "machine type", Severity: FindingSeverity.Blocks });
        Assert.Contains(await CheckAsync("<interface type='user'>", "<interface type='network'><source network='absent'/>"), finding => finding is { Item: "network", Severity: FindingSeverity.Blocks });
        Assert.Contains(await CheckAsync(lab.Libvirt.Kernel, "/nonexistent/kernel"), finding => finding is { Item: "file", Severity: FindingSeverity.Blocks });
        Assert.Contains(await CheckAsync("dev='vdb'", "dev='vdz'"), finding => finding is { Item: "disk", Severity: FindingSeverity.Blocks });

        // A kernel that QEMU cannot read.
        var broken = lab.Libvirt.File("broken");
        await File.WriteAllTextAsync(broken, "not a kernel");
        var failing = request with { Configuration = capture.Configuration with { Native = Encoding.UTF8.GetBytes(xml.Replace(lab.Libvirt.Kernel, broken, StringComparison.Ordinal)) } };
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await lab.RestoreAsync(failing));
        Assert.Contains("did not start, and was removed again", fault.Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(request.Folder));
        Assert.Equal("lab", Assert.Single(await lab.Driver.ListMachinesAsync(default)).Name);
        await capture.AbandonAsync(default);
    }
}
