using System.Globalization;
using System.Text;
using System.Text.Json;
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

        // Memory and processors with the disks of the same instant: what the guest held in neither file system nor cache goes on.
        (await vm.ExecAsync("echo kept > /run/memory; (i=0; while :; do i=$((i+1)); echo $i > /run/count; sleep 0.2; done) >/dev/null 2>&1 &")).EnsureSuccess();
        var running = await installation.BackUpAsync("web", "--with-state");
        var idle = await installation.BackUpAsync("web", "--with-state");
        var uptime = SecondsOf(await vm.ReadFileAsync("/proc/uptime"));
        Assert.Equal("crash", idle.GetProperty("consistency").GetString());
        Assert.InRange(idle.GetProperty("state").GetProperty("memory_bytes").GetInt64(), 256L << 20, 1L << 30);
        Assert.InRange(idle.GetProperty("state").GetProperty("paused_ms").GetInt64(), 1, 60_000);
        Assert.InRange(StoredOf(idle), 1, StoredOf(running) * 15 / 100);
        Assert.Equal(["device-state", "disk", "disk", "memory"], (await installation.RunAsync("recovery-point", "show", Outcomes.PointOf(idle))).Json
            .GetProperty("streams").EnumerateArray().Select(stream => stream.GetProperty("kind").GetString()).Order(StringComparer.Ordinal));

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
        var resumed = (await installation.RunAsync("restore", "run", Outcomes.PointOf(idle), "--folder", installation.File("resumed"), "--with-state")).Json;
        await using var again = RestoredVm.Of(resumed);
        Assert.Equal("kept\n", Encoding.UTF8.GetString(await again.ReadFileAsync("/run/memory")));
        Assert.InRange(SecondsOf(await again.ReadFileAsync("/proc/uptime")), uptime - 60, double.MaxValue);
        var count = await again.ReadFileAsync("/run/count");
        await Installation.PollAsync("the guest's program to go on", async () => !(await again.ReadFileAsync("/run/count")).SequenceEqual(count));
    }

    private static double SecondsOf(byte[] uptime) => double.Parse(Encoding.ASCII.GetString(uptime).Split(' ')[0], CultureInfo.InvariantCulture);

    private static long StoredOf(JsonElement point) => point.GetProperty("state").GetProperty("stored_bytes").GetInt64();
}
