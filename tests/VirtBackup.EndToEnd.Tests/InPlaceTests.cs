using System.Text;
using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>Restores that do not make a new machine as it was.</summary>
public sealed class InPlaceTests
{
    private const int Chunk = 64 << 10;

    [Fact]
    public async Task A_real_guests_disks_become_equal_to_either_point_and_only_what_differs_is_written()
    {
        var guest = await LabGuest.GetAsync();
        await using var vm = await LabVm.BootAsync(new LabVmOptions
        {
            Name = "web",
            Disks =
            [
                new LabDiskOptions { NodeName = "root", CopyFrom = guest.RootDisk },
                new LabDiskOptions { NodeName = "data", CopyFrom = guest.DataDisk },
                new LabDiskOptions { NodeName = "blank", Format = LabDiskFormat.Raw, Size = 24 << 20 },
            ],
        });
        var (installation, _) = await Installation.StartAsync((_, agent) =>
        {
            agent.Chunks = "fixed-64K";
            agent.Add(vm);
        });
        await using var _ = installation;
        await installation.WaitForMachineAsync("web");
        var first = await PointAsync(installation, vm, "first");
        (await vm.ExecAsync("dd if=/dev/urandom of=/data/changed bs=1M count=6 2>/dev/null; dd if=/dev/urandom of=/dev/vdc bs=1M seek=3 count=2 2>/dev/null; sync")).EnsureSuccess();
        var second = await PointAsync(installation, vm, "second");
        (await vm.ExecAsync("echo third > /data/marker; rm /data/changed; dd if=/dev/urandom of=/data/more bs=1M count=3 2>/dev/null; dd if=/dev/urandom of=/dev/vdc bs=1M seek=4 count=2 2>/dev/null; sync")).EnsureSuccess();

        Outcomes.AssertOneError(await installation.RunAsync("restore", "run", second.Point, "--in-place"), 1, "is running", "Shut it down");
        await vm.QuitAsync();

        foreach (var (target, number) in new[] { (second, 0), (first, 1) })
        {
            var before = await Reference.TakeAsync(vm, installation.File($"before-{number}"));
            var result = ResultOf(await installation.RunAsync("restore", "run", target.Point, "--in-place", "--no-start"));
            await target.Reference.AssertEqualAsync(vm);
            var differing = await DifferingBytesAsync(installation.File($"before-{number}"), installation.File(target.Marker));
            var written = result.GetProperty("bytes_written").GetInt64();
            Assert.InRange(written, 1, differing);
            var total = vm.Disks.Sum(disk => new FileInfo(Path.Combine(installation.File(target.Marker), disk.DeviceId + ".raw")).Length);
            Assert.Equal(total, written + result.GetProperty("bytes_skipped").GetInt64());
            // The raw disk keeps no change tracking and is compared whole; of the others, only what may differ.
            var compared = result.GetProperty("bytes_compared").GetInt64();
            Assert.InRange(compared, (24 << 20) + 1, (24 << 20) + ((total - (24 << 20)) / 2));
            Assert.Equal("[]", result.GetProperty("differences").GetRawText());
        }

        // Started by us, it runs as it ran, with what the point held.
        var started = (await installation.RunAsync("restore", "run", first.Point, "--in-place")).Json;
        await using var restored = RestoredVm.Of(started);
        Assert.Equal("first", Encoding.UTF8.GetString(await restored.ReadFileAsync("/data/marker")));
        var outcome = started.GetProperty("result").GetProperty("restore");
        Assert.True(outcome.GetProperty("running").GetBoolean());
        Assert.Equal("[]", outcome.GetProperty("differences").GetRawText());
        Assert.StartsWith("sent", DetailsOf(outcome)["thaw"], StringComparison.Ordinal);
    }

    [Fact]
    public async Task Formats_buses_networks_and_single_disks_are_chosen_and_every_difference_is_told()
    {
        await using var still = await StillVm.StartAsync("still");
        var vm = still.Vm;
        var (installation, _) = await Installation.StartAsync((_, agent) => agent.Add(vm, guestAgent: false));
        await using var _ = installation;
        await installation.WaitForMachineAsync("still");
        var reference = await Reference.TakeAsync(vm, installation.File("reference"));
        var point = Outcomes.PointOf(await installation.BackUpAsync("still"));

        var folder = installation.File("new");
        var result = ResultOf(await installation.RunAsync("restore", "run", point, "--folder", folder, "--no-start", "--name", "copy",
            "--format", "disk-raw=qcow2", "--bus", "disk-raw=scsi", "--map-network", "n0=isolated"));
        await reference.AssertEqualAsync(vm.Disks.ToDictionary(disk => disk.DeviceId, disk => DetailsOf(result)[$"disk {disk.DeviceId}"]));
        var differences = result.GetProperty("differences").EnumerateArray()
            .ToDictionary(difference => difference.GetProperty("item").GetString()! + difference.GetProperty("captured").GetString(), difference => difference.GetProperty("recreated").GetString());
        Assert.Equal("qcow2", differences["disks.disk-raw.formatraw"]);
        Assert.Equal("scsi-hd", differences["disks.disk-raw.device.drivervirtio-blk-pci"]);
        Assert.Equal(Path.Combine(folder, "disk-qcow2.qcow2"), differences[$"disks.disk-qcow2.path{vm.Disk("qcow2").Path}"]);
        Assert.Equal("guest=copy", differences[$"nameguest=still"]);
        Assert.Contains(differences.Keys, key => key.StartsWith("uuid", StringComparison.Ordinal));
        Assert.Contains(differences.Keys, key => key.StartsWith("networkCards.net0.mac", StringComparison.Ordinal));
        Assert.DoesNotContain(differences.Keys, key => key.StartsWith("memory", StringComparison.Ordinal) || key.StartsWith("disks.disk-qcow2.format", StringComparison.Ordinal) || key.Contains("lengthBytes", StringComparison.Ordinal));

        var refused = await installation.RunAsync("restore", "run", point, "--folder", installation.File("other"), "--map-network", "nosuch=br0");
        Outcomes.AssertOneError(refused, 1, "nosuch", "n0");

        var single = await installation.RestoreDisksAsync(point, "single", "--disk", "disk-qcow2");
        Assert.Equal(["disk-qcow2"], single.Keys);
        Assert.True(await LabDisk.ContentEqualsAsync(single["disk-qcow2"], LabDiskFormat.Qcow2, Path.Combine(installation.File("reference"), "disk-qcow2.raw"), LabDiskFormat.Raw));
        Assert.Equal(["disk-qcow2.qcow2"], Directory.EnumerateFileSystemEntries(installation.File("single")).Select(Path.GetFileName));

        // One disk back in place, the other as it became; then the whole machine anew.
        await still.WriteAsync(5 << 20, 3 << 20);
        await vm.QuitAsync();
        ResultOf(await installation.RunAsync("restore", "run", point, "--in-place", "--disk", "disk-qcow2"));
        var raw = await LabDisk.Sha256Async(vm.Disk("raw").Path, LabDiskFormat.Raw);
        Assert.NotEqual(await LabDisk.Sha256Async(Path.Combine(installation.File("reference"), "disk-raw.raw"), LabDiskFormat.Raw), raw);
        Assert.True(await LabDisk.ContentEqualsAsync(vm.Disk("qcow2").Path, LabDiskFormat.Qcow2, Path.Combine(installation.File("reference"), "disk-qcow2.raw"), LabDiskFormat.Raw));

        var replaced = ResultOf(await installation.RunAsync("restore", "run", point, "--replace", "--no-start", "--keep-replaced"));
        await reference.AssertEqualAsync(vm);
        // The test's machine was started without its guest; the new one is not to be.
        var left = Assert.Single(replaced.GetProperty("differences").EnumerateArray());
        Assert.Equal("options -S ", $"{left.GetProperty("item")} {left.GetProperty("captured")} {left.GetProperty("recreated")}");
        Assert.Equal(raw, await LabDisk.Sha256Async($"{vm.Disk("raw").Path}.replaced-{point[..8]}", LabDiskFormat.Raw));
    }

    private static async Task<(string Point, string Marker, Reference Reference)> PointAsync(Installation installation, LabVm vm, string marker)
    {
        await vm.WriteFileAsync("/data/marker", Encoding.UTF8.GetBytes(marker));
        (await vm.ExecAsync("sync")).EnsureSuccess();
        await vm.QmpAsync("stop");
        var reference = await Reference.TakeAsync(vm, installation.File(marker));
        var point = Outcomes.PointOf(await installation.BackUpAsync("web"));
        await vm.QmpAsync("cont");
        return (point, marker, reference);
    }

    private static async Task<long> DifferingBytesAsync(string left, string right)
    {
        long bytes = 0;
        foreach (var path in Directory.EnumerateFiles(left))
        {
            var (before, after) = (await File.ReadAllBytesAsync(path), await File.ReadAllBytesAsync(Path.Combine(right, Path.GetFileName(path))));
            for (var offset = 0; offset < before.Length; offset += Chunk)
            {
                var length = Math.Min(Chunk, before.Length - offset);
                bytes += before.AsSpan(offset, length).SequenceEqual(after.AsSpan(offset, length)) ? 0 : length;
            }
        }
        return bytes;
    }

    private static JsonElement ResultOf(CommandResult result) => result.Json.GetProperty("result").GetProperty("restore");

    private static Dictionary<string, string> DetailsOf(JsonElement restore) =>
        restore.GetProperty("details").EnumerateArray().ToDictionary(detail => detail.GetProperty("name").GetString()!, detail => detail.GetProperty("value").GetString()!);
}
