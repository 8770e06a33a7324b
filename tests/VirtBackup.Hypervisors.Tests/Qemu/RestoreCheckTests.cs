using VirtBackup.Core;
using VirtBackup.Hypervisors.Qemu;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Qemu;

public sealed class RestoreCheckTests
{
    /// <summary>A machine whose guest is not up, captured once; <paramref name="name"/> is the folder to restore to.</summary>
    private static async Task<(CaptureLab Lab, RestoreRequest Request)> PrepareAsync(string name)
    {
        var lab = await CaptureLab.StartAsync();
        await lab.Vm.QmpAsync("stop"); // the images are compared later
        await using var capture = await lab.Driver.BeginCaptureAsync(lab.Request(CaptureLab.NewPoint()) with { Quiesce = false }, default);
        await lab.ReadAsync(capture);
        return (lab, lab.RestoreRequest(capture, new Id16(1), lab.Scratch.File(name), "copy"));
    }

    private static RestoreRequest With(RestoreRequest request, Func<ArgvDocument, ArgvDocument> change) => request with
    {
        Configuration = request.Configuration with { Native = change(ArgvDocument.Read(request.Configuration.Native.Span)).Write() },
    };

    [Fact]
    public async Task What_does_not_fit_this_host_is_found_before_a_byte_moves()
    {
        var (lab, request) = await PrepareAsync("new");
        await using var _ = lab;
        var fits = await lab.Driver.CheckRestoreAsync(request, default);
        Assert.DoesNotContain(fits, finding => finding.Severity == FindingSeverity.Blocks);
        Assert.Contains(fits, finding => finding.Item == "machine type" && finding.Message.Contains("q35", StringComparison.Ordinal));

        var full = Directory.CreateDirectory(lab.Scratch.File("full")).FullName;
        await File.WriteAllTextAsync(Path.Combine(full, "x"), "x");
        var cases = new (string Item, RestoreRequest Request)[]
        {
            ("folder", request with { Folder = full }),
            ("folder", request with { Folder = "relative" }),
            ("folder", request with { Folder = "/nowhere/at/all" }),
            ("folder", request with { Folder = lab.Scratch.File(new string('x', 90)) }),
            ("space", request with { Disks = [.. request.Disks.Select(disk => disk with { LengthBytes = 1L << 50, DataBytes = 1L << 50 })] }),
            ("disk format", request with { Disks = [request.Disks[0] with { Format = "vmdk" }, request.Disks[1]] }),
            ("disk", request with { Disks = [request.Disks[0] with { Id = new Id16(99) }, request.Disks[1]] }),
            ("program", With(request, document => document with { Executable = "/opt/qemu-of-another-world" })),
            ("machine type", With(request, document => document with { Arguments = [.. document.Arguments, "-machine", "pc-q35-99.0"] })),
            ("file", With(request, document => document with { Arguments = [.. document.Arguments, "-cdrom", "/nowhere/cd.iso"] })),
            ("device", With(request, document => document with { Arguments = [.. document.Arguments, "-device", "no-such-device"] })),
            ("cpu", With(request, document => document with { Arguments = [.. document.Arguments, "-cpu", "NoSuchLake"] })),
            ("network", With(request, document => document with { Arguments = [.. document.Arguments, "-netdev", "bridge,id=lan,br=no-such-bridge"] })),
        };
        foreach (var (item, refused) in cases)
        {
            var finding = Assert.Single(await lab.Driver.CheckRestoreAsync(refused, default), finding => finding.Severity == FindingSeverity.Blocks);
            Assert.Equal(item, finding.Item);
            var fault = await Assert.ThrowsAsync<FaultException>(async () => await lab.Driver.BeginRestoreAsync(refused, default));
            // What is free may change between the two looks.
            Assert.Contains(finding.Message.Split(", ")[0], fault.Message, StringComparison.Ordinal);
        }
        var foreign = request with { HypervisorKind = "libvirt", Configuration = request.Configuration with { NativeKind = "libvirt-xml" } };
        Assert.Equal(FaultReason.Unsupported, (await Assert.ThrowsAsync<FaultException>(async () => await lab.Driver.CheckRestoreAsync(foreign, default))).Reason);
        Assert.Equal(["x"], Directory.GetFileSystemEntries(full).Select(Path.GetFileName));
        Assert.False(Directory.Exists(request.Folder));
    }

    [Fact]
    public async Task A_captured_machine_says_what_it_is_compared_by_and_fits_its_own_host_in_everything()
    {
        var (lab, request) = await PrepareAsync("same");
        await using var _ = lab;
        var facts = request.Configuration.Neutral.GetProperty("facts");
        Assert.Equal(1, facts.GetProperty("version").GetInt32());
        Assert.Equal("tcg", facts.GetProperty("accelerator").GetString());
        Assert.Contains("sse2", facts.GetProperty("cpu").GetProperty("features").EnumerateArray().Select(feature => feature.GetString()));
        Assert.NotEmpty(facts.GetProperty("cpu").GetProperty("model").GetString()!);
        Assert.All(facts.GetProperty("disks").EnumerateArray(), disk => Assert.Equal(512, disk.GetProperty("logicalSectorBytes").GetInt32()));
        Assert.Equal(request.Disks.Count, facts.GetProperty("disks").GetArrayLength());
        var findings = await lab.Driver.CheckRestoreAsync(request, default);
        foreach (var item in new[] { "program", "machine type", "cpu", "firmware", "secure boot", "tpm", "disk bus", "sector size", "disk format", "space" })
        {
            Assert.All(findings.Where(finding => finding.Item == item), finding => Assert.Equal(FindingSeverity.Fits, finding.Severity));
            Assert.Contains(findings, finding => finding.Item == item);
        }

        // A point of an earlier version: what cannot be judged is said.
        using var bare = System.Text.Json.JsonDocument.Parse("""{"machineType":"pc-q35-7.2"}""");
        var old = With(request with { Configuration = request.Configuration with { Neutral = bare.RootElement } }, document => document with { Arguments = [.. document.Arguments, "-cpu", "max"] });
        var unknown = (await lab.Driver.CheckRestoreAsync(old, default)).Where(finding => finding.Severity == FindingSeverity.Unknown).Select(finding => finding.Item).ToHashSet();
        Assert.Superset(new HashSet<string> { "cpu", "sector size" }, unknown);
    }

    [Fact]
    public async Task An_unfinished_restore_leaves_nothing_and_one_that_does_not_start_keeps_its_disks()
    {
        var (lab, request) = await PrepareAsync("it's new");
        await using var _ = lab;
        await using (var restore = await lab.Driver.BeginRestoreAsync(request, default))
        {
            await restore.Disks[0].WriteAsync(0, new byte[] { 1, 2, 3 }, default);
            Assert.Equal(FaultReason.InvalidArgument,
                (await Assert.ThrowsAsync<FaultException>(async () => await restore.Disks[0].WriteAsync(request.Disks[0].LengthBytes - 1, new byte[2], default))).Reason);
        }
        Assert.False(Directory.Exists(request.Folder));

        var broken = With(request, document => document with { Arguments = [.. document.Arguments, "-device", "virtio-rng-pci,no-such-property=1"] });
        var fault = await Assert.ThrowsAsync<FaultException>(() => lab.RestoreAsync(broken));
        Assert.Contains("no-such-property", fault.Message, StringComparison.Ordinal);
        Assert.Contains("launch.sh", fault.Message, StringComparison.Ordinal);
        foreach (var disk in lab.Vm.Disks)
        {
            Assert.True(await LabDisk.ContentEqualsAsync(disk.Path, disk.Format, Path.Combine(request.Folder, $"{disk.DeviceId}.qcow2"), LabDiskFormat.Qcow2, inUse: true));
        }

        // Another format than the original's, reserved in full, not started.
        var raw = request with
        {
            Folder = lab.Scratch.File("raw"), Start = false, Preallocation = DiskPreallocation.Full, Disks = [.. request.Disks.Select(disk => disk with { Format = "raw" })],
        };
        var stopped = await lab.RestoreAsync(raw);
        Assert.False(stopped.Running);
        Assert.False(stopped.Details.ContainsKey("pid"));
        foreach (var disk in lab.Vm.Disks)
        {
            Assert.True(await LabDisk.ContentEqualsAsync(disk.Path, disk.Format, stopped.Details[$"disk {disk.DeviceId}"], LabDiskFormat.Raw, inUse: true));
        }
        Assert.Equal(["disk-data.raw", "disk-root.raw", "launch.json", "launch.sh"], Directory.GetFileSystemEntries(raw.Folder).Select(Path.GetFileName).Order());
    }
}
