using System.Text;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>The promise of the product, on a real guest.</summary>
public sealed class MachineTests
{
    [Fact]
    public async Task A_machine_boots_from_its_recovery_points_after_its_disks_and_launch_files_were_removed()
    {
        var guest = await LabGuest.GetAsync();
        await using var vm = await LabVm.BootAsync(new LabVmOptions
        {
            Name = "web",
            Disks =
            [
                new LabDiskOptions { NodeName = "root", CopyFrom = guest.RootDisk },
                new LabDiskOptions { NodeName = "data", CopyFrom = guest.DataDisk, Format = LabDiskFormat.Raw },
            ],
        });
        var (installation, agent) = await Installation.StartAsync((_, agent) => agent.Add(vm));
        await using var _ = installation;
        await installation.WaitForMachineAsync("web");

        await vm.WriteFileAsync("/data/marker", Encoding.UTF8.GetBytes("first"));
        var first = await installation.BackUpAsync("web");
        Assert.Equal("filesystem", first.GetProperty("consistency").GetString());

        // What is to be restored is what the disks held at the cut, whatever the guest writes while they are read.
        await agent.Service.RestartAsync();
        await vm.WriteFileAsync("/data/marker", Encoding.UTF8.GetBytes("second"));
        (await vm.ExecAsync("dd if=/dev/urandom of=/data/changed bs=1M count=12 2>/dev/null; sync")).EnsureSuccess();
        await vm.QmpAsync("stop");
        var reference = await Reference.TakeAsync(vm, installation.File("reference"));
        await installation.WaitForMachineAsync("web");
        var job = await installation.BeginBackUpAsync("web", "reading", "--rate-limit", "3MiB");
        await vm.QmpAsync("cont");
        (await vm.ExecAsync("echo third > /data/marker; dd if=/dev/urandom of=/data/changed bs=1M count=12 conv=notrunc 2>/dev/null; sync")).EnsureSuccess();
        var second = (await installation.FollowAsync(job)).Json.GetProperty("result").GetProperty("backup");
        Assert.Equal(Outcomes.PointOf(first), second.GetProperty("base_point_id").GetString());
        Assert.InRange(Outcomes.ReadBytesOf(second), 12 << 20, 64 << 20);

        // Process, disks, sockets, everything: nothing that a restore could lean on remains.
        var folder = vm.Directory;
        await vm.DisposeAsync();
        Assert.False(Directory.Exists(folder));

        await reference.AssertEqualAsync(await installation.RestoreDisksAsync(Outcomes.PointOf(second), "cold"));
        foreach (var (point, marker) in new[] { (Outcomes.PointOf(first), "first"), (Outcomes.PointOf(second), "second") })
        {
            var result = (await installation.RunAsync("restore", "run", point, "--folder", installation.File(marker), "--name", marker)).Json;
            await using var restored = RestoredVm.Of(result);
            Assert.Equal(marker, Encoding.UTF8.GetString(await restored.ReadFileAsync("/data/marker")));
        }
    }
}
