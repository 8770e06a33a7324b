using System.Text;
using System.Text.Json;
using System.Xml.Linq;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Libvirt;

/// <summary>Restores in the place of a machine that libvirt has, and that is off.</summary>
public class ExistingDomainTests
{
    [Fact]
    public async Task Changed_blocks_are_put_back_the_next_backup_is_right_and_the_machine_is_replaced()
    {
        await using var lab = await LibvirtLab.BootAsync();
        var (first, second, third) = (LibvirtLab.NewPoint(), LibvirtLab.NewPoint(), LibvirtLab.NewPoint());
        (await lab.Domain.ExecAsync("echo marker > /data/marker && sync")).EnsureSuccess();
        var (capture, reference) = await lab.CutWithReferenceAsync(lab.Request(first));
        await lab.ReadAsync(capture);
        await capture.CommitAsync(default);
        await capture.DisposeAsync();
        var whole = lab.RestoreRequest(capture, first, "", "lab") with { KeepIdentity = true, Start = false };
        await lab.WriteAsync("/data/marker", 700);
        var inPlace = whole with { Placement = RestorePlacement.InPlace };
        var running = Assert.Single(await lab.Driver.CheckRestoreAsync(inPlace, default), finding => finding.Severity == FindingSeverity.Blocks);
        Assert.Contains("its guest has parts of its disks in memory", running.Message, StringComparison.Ordinal);
        await lab.Libvirt.VirshAsync("destroy", "lab");

        // Only what changed since the point is looked at, and written.
        await using (var restore = await lab.Driver.BeginRestoreAsync(inPlace, default))
        {
            foreach (var disk in restore.Disks.Cast<IExistingDisk>())
            {
                Assert.Equal((first, "its changes are tracked"), (disk.TrackedSince, disk.TrackingDetail));
                Assert.InRange(disk.ChangedExtents.Sum(extent => extent.Length), disk.Disk.Name == "vdb" ? 700 << 10 : 0, 8 << 20);
                foreach (var extent in disk.ChangedExtents)
                {
                    await disk.WriteAsync(extent.Offset, lab.ContentOf(disk.Disk.Name, extent), default);
                }
            }
            var machine = await restore.CompleteAsync(default);
            Assert.Equal((lab.Machine, "lab", false), (machine.Id, machine.Name, machine.Running));
            Assert.Empty(Differences(machine));
        }
        foreach (var (disk, hash) in reference)
        {
            var (path, format) = await lab.ImageAsync(disk);
            Assert.Equal(hash, await LabDisk.Sha256Async(path, format));
        }
        await lab.Libvirt.VirshAsync("start", "lab");
        var (_, reasons) = await lab.BackUpAsync(second, first);
        Assert.All(reasons.Values, reason => Assert.Equal("changed blocks only", reason));
        await lab.Libvirt.VirshAsync("destroy", "lab");

        // In its place, with another format, bus and network.
        var replacing = whole with
        {
            Placement = RestorePlacement.Replace, Start = true, Networks = [new NetworkMapping("user", NetworkMapping.Isolated)],
            Disks = [.. whole.Disks.Select(disk => disk.Name == "vdb" ? disk with { Format = "raw", Bus = "scsi" } : disk)],
        };
        Assert.DoesNotContain(await lab.Driver.CheckRestoreAsync(replacing, default), finding => finding.Severity == FindingSeverity.Blocks);
        var replaced = await lab.RestoreAsync(replacing);
        Assert.True(replaced.Running);
        Assert.Equal("sent, 0 file systems were frozen", replaced.Details["thaw"]);
        Assert.Equal("marker\n", Encoding.UTF8.GetString(await lab.Domain.ReadFileAsync("/data/marker")));
        Assert.Equal(LabDiskFormat.Raw, (await lab.ImageAsync("vdb")).Format);
        var differences = Differences(replaced);
        Assert.Contains(differences, difference => difference.StartsWith("disks.vdb.target.bus: virtio -> scsi", StringComparison.Ordinal));
        Assert.Contains(differences, difference => difference.StartsWith("disks.vdb.driver.type: qcow2 -> raw", StringComparison.Ordinal));
        Assert.Contains(differences, difference => difference.StartsWith("interface.0.link.state:  -> down", StringComparison.Ordinal));
        Assert.DoesNotContain(differences, difference => difference.StartsWith("disks.vda.", StringComparison.Ordinal) || difference.StartsWith("uuid", StringComparison.Ordinal) || difference.Contains("mac", StringComparison.Ordinal));
        // Its images are new: nothing is tracked in them, and libvirt does not claim so.
        Assert.Empty(await lab.CheckpointsAsync());
        (_, reasons) = await lab.BackUpAsync(third, first, second);
        Assert.Contains("no change tracking", reasons["vda"], StringComparison.Ordinal);
        Assert.DoesNotContain(Directory.EnumerateFiles(lab.Libvirt.File("lab")), path => path.Contains("virtbackup", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_replacement_that_fails_or_breaks_off_leaves_the_machine_as_it_was_or_as_it_was_started()
    {
        await using var lab = await LibvirtLab.DefineAsync();
        // libvirt lists devices in another order once it is given its own document.
        await lab.Domain.DefineAsync(await lab.Libvirt.VirshAsync("dumpxml", "lab", "--inactive"));
        var (request, before) = (await CaptureAsync(lab), await StateAsync(lab));
        var replacing = request with { Placement = RestorePlacement.Replace };

        // A kernel that QEMU cannot read.
        var broken = lab.Libvirt.File("broken");
        await File.WriteAllTextAsync(broken, "not a kernel");
        var xml = Encoding.UTF8.GetString(request.Configuration.Native.Span).Replace(lab.Libvirt.Kernel, broken, StringComparison.Ordinal);
        var failing = replacing with { Start = true, Configuration = request.Configuration with { Native = Encoding.UTF8.GetBytes(xml) } };
        await using (var restore = await lab.Driver.BeginRestoreAsync(failing, default))
        {
            await restore.Disks[0].WriteAsync(0, new byte[] { 5 }, default);
            var fault = await Assert.ThrowsAsync<FaultException>(async () => await restore.CompleteAsync(default));
            Assert.Contains("in their places again", fault.Message, StringComparison.Ordinal);
        }
        Assert.Equal(before, await StateAsync(lab));

        // Killed before the machine is started, and after: with names exchanged and the new definition given to libvirt.
        string[] images = [(await lab.ImageAsync("vda")).Path, (await lab.ImageAsync("vdb")).Path];
        foreach (var settled in new[] { false, true })
        {
            foreach (var image in images) File.Copy(image, ReplacementJournal.NewPath(image));
            foreach (var image in images) await File.AppendAllTextAsync(ReplacementJournal.NewPath(image), "new");
            var journal = new ReplacementJournal(images, ".replaced-x", await lab.Libvirt.VirshAsync("dumpxml", "lab", "--inactive", "--security-info"));
            journal.Swap();
            if (!OperatingSystem.IsWindows()) Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(images[0] + ".virtbackup-replacing"));
            await lab.Domain.DefineAsync((await lab.Libvirt.VirshAsync("dumpxml", "lab", "--inactive")).Replace(">262144<", ">131072<", StringComparison.Ordinal));
            if (settled) journal.Settle();
            Assert.NotEqual(before, await StateAsync(lab));
            await lab.NewDriver().ReleaseGuestsAsync(default);
            var after = await StateAsync(lab);
            Assert.Equal(settled, before != after);
            Assert.Equal(settled, after.Contains("131072", StringComparison.Ordinal));
            Assert.Equal(settled ? 2 : 0, Directory.EnumerateFiles(lab.Libvirt.File("lab"), "*.replaced-x").Count());
        }
    }

    [Fact]
    public async Task What_stands_in_the_way_of_a_machine_that_exists_is_told()
    {
        await using var lab = await LibvirtLab.DefineAsync();
        var request = await CaptureAsync(lab);
        var (replacing, inPlace) = (request with { Placement = RestorePlacement.Replace }, request with { Placement = RestorePlacement.InPlace });
        Assert.DoesNotContain(await lab.Driver.CheckRestoreAsync(replacing, default), finding => finding.Severity == FindingSeverity.Blocks);
        Assert.Empty(await BlocksAsync(lab, inPlace));
        // Nothing that a plan has to speak of is passed over.
        foreach (var asked in new[] { replacing, inPlace, request with { Folder = lab.Libvirt.File("copy"), Name = "copy" } })
        {
            Assert.DoesNotContain(RestorePlanItems.Complete(await lab.Driver.CheckRestoreAsync(asked, default)), finding => finding.Item == "other items");
        }

        // Half restored: neither backed up nor forgotten, until a restore has finished.
        await using (var restore = await lab.Driver.BeginRestoreAsync(inPlace, default))
        {
            await restore.Disks[0].WriteAsync(0, new byte[] { 5 }, default);
            Assert.NotEqual(0, (await lab.Libvirt.TryVirshAsync("start", "lab")).ExitCode);
        }
        var half = await Assert.ThrowsAsync<FaultException>(async () => await lab.Driver.BeginCaptureAsync(lab.Request(LibvirtLab.NewPoint()), default));
        Assert.Contains("is half restored", half.Message, StringComparison.Ordinal);
        foreach (var disk in request.Disks)
        {
            await using var again = await lab.Driver.BeginRestoreAsync(inPlace with { DisksOnly = true, Disks = [disk] }, default);
            await again.CompleteAsync(default);
        }
        await CaptureAsync(lab);

        await lab.Libvirt.VirshAsync("start", "lab", "--paused");
        Assert.Contains(await BlocksAsync(lab, replacing), message => message.Contains("is running on this host", StringComparison.Ordinal));
        await lab.Libvirt.VirshAsync("managedsave", "lab");
        Assert.Contains(await BlocksAsync(lab, inPlace), message => message.Contains("has a saved state", StringComparison.Ordinal));
        await lab.Libvirt.VirshAsync("managedsave-remove", "lab");
        // libvirt takes no such snapshot while a checkpoint exists.
        foreach (var checkpoint in await lab.CheckpointsAsync()) await lab.Libvirt.VirshAsync("checkpoint-delete", "lab", checkpoint, "--metadata");
        await lab.Libvirt.VirshAsync("snapshot-create-as", "lab", "before");
        Assert.Contains(await BlocksAsync(lab, replacing), message => message.Contains("1 snapshots of lab", StringComparison.Ordinal));
        Assert.Empty(await BlocksAsync(lab, inPlace));
        await lab.Libvirt.VirshAsync("snapshot-delete", "lab", "before");
        await lab.Libvirt.VirshAsync("domrename", "lab", "other");
        Assert.Contains(await lab.Driver.CheckRestoreAsync(inPlace, default), finding => finding is { Item: "name", Severity: FindingSeverity.Adapts } && finding.Message.Contains("is called other now", StringComparison.Ordinal));
        await lab.Libvirt.VirshAsync("detach-disk", "other", "vdb", "--config");
        Assert.Contains(await BlocksAsync(lab, inPlace), message => message.Contains("has no disk vdb now", StringComparison.Ordinal));
        Assert.Contains(await BlocksAsync(lab, replacing), message => message.Contains("may be another machine's", StringComparison.Ordinal));
        await lab.Libvirt.VirshAsync("undefine", "other");
        Assert.Contains(await BlocksAsync(lab, replacing), message => message.Contains("there is nothing to replace", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Firmware_variables_buses_networks_and_pools_go_with_a_copy()
    {
        await using var lab = await LibvirtLab.DefineAsync();
        var (template, bytes) = (lab.Libvirt.File("template.fd"), new byte[128 << 10]);
        new Random(4).NextBytes(bytes);
        await File.WriteAllBytesAsync(template, bytes);
        Directory.CreateDirectory(lab.Libvirt.File("c/qemu/firmware"));
        await File.WriteAllTextAsync(lab.Libvirt.File("c/qemu/firmware/50-lab.json"), JsonSerializer.Serialize(new Dictionary<string, object>
        {
            ["description"] = "no guest boots from it", ["interface-types"] = new[] { "uefi" }, ["features"] = Array.Empty<string>(), ["tags"] = Array.Empty<string>(),
            ["mapping"] = new Dictionary<string, object>
            {
                ["device"] = "flash", ["executable"] = new { filename = "/usr/share/seabios/bios-256k.bin", format = "raw" }, ["nvram-template"] = new { filename = template, format = "raw" },
            },
            ["targets"] = new[] { new { architecture = "x86_64", machines = new[] { "pc-q35-*" } } },
        }));
        // libvirt chooses the firmware and the place of its variables, and makes them at the first start.
        var xml = await lab.Libvirt.VirshAsync("dumpxml", "lab", "--inactive");
        await lab.Domain.DefineAsync(xml.Replace("<os>", "<os firmware='efi'>", StringComparison.Ordinal));
        Assert.Empty((await CaptureAsync(lab)).Contents);
        await lab.Libvirt.VirshAsync("start", "lab", "--paused");
        await lab.Libvirt.VirshAsync("destroy", "lab");
        var variables = lab.Libvirt.File("c/libvirt/qemu/nvram/lab_VARS.fd");
        var request = await CaptureAsync(lab);
        Assert.Equal(bytes, Assert.Single(request.Contents).Bytes.ToArray());

        // In the machine's own place, they are those of the point again.
        await File.WriteAllBytesAsync(variables, new byte[bytes.Length]);
        foreach (var placement in new[] { RestorePlacement.InPlace, RestorePlacement.Replace })
        {
            await using (var restore = await lab.Driver.BeginRestoreAsync(request with { Placement = placement }, default))
            {
                Assert.Equal(variables, (await restore.CompleteAsync(default)).Details["firmware variables"]);
            }
            Assert.Equal(bytes, await File.ReadAllBytesAsync(variables));
            await File.WriteAllBytesAsync(variables, new byte[bytes.Length]);
        }

        var copy = request with
        {
            Folder = lab.Libvirt.File("pool/copy"), Name = "copy", KeepIdentity = false, Networks = [new NetworkMapping("user", NetworkMapping.Isolated)],
            Disks = [request.Disks[0] with { Bus = "sata" }, request.Disks[1] with { Bus = "scsi" }],
        };
        Directory.CreateDirectory(lab.Libvirt.File("pool"));
        await lab.Libvirt.GiveAsync(lab.Libvirt.File("pool"));
        await lab.Libvirt.VirshAsync("pool-define-as", "images", "dir", "--target", lab.Libvirt.File("pool"));
        Assert.Contains(await lab.Driver.CheckRestoreAsync(copy, default), finding => finding is { Item: "storage pool", Severity: FindingSeverity.Adapts });
        await lab.Libvirt.VirshAsync("pool-start", "images");
        Assert.Contains(await lab.Driver.CheckRestoreAsync(copy, default), finding => finding is { Item: "storage pool", Severity: FindingSeverity.Fits });
        Assert.Contains(await BlocksAsync(lab, copy with { Networks = [new NetworkMapping("user", "absent")] }), message => message.Contains("called absent", StringComparison.Ordinal));
        Assert.Contains(await BlocksAsync(lab, copy with { Networks = [new NetworkMapping("none", "isolated")] }), message => message.Contains("It has user", StringComparison.Ordinal));
        Assert.Contains(await BlocksAsync(lab, copy with { Disks = [request.Disks[0] with { Bus = "ide" }, request.Disks[1]] }), message => message.Contains("Choose sata", StringComparison.Ordinal));

        await using (var restore = await lab.Driver.BeginRestoreAsync(copy, default))
        {
            var machine = await restore.CompleteAsync(default);
            var differences = Differences(machine);
            Assert.Contains(differences, difference => difference.StartsWith("disks.vda.target.bus: virtio -> sata", StringComparison.Ordinal));
            Assert.Contains(differences, difference => difference.StartsWith("name: lab -> copy", StringComparison.Ordinal));
            Assert.Contains(differences, difference => difference.StartsWith("interface.0.mac.address", StringComparison.Ordinal));
            Assert.Equal(bytes, await File.ReadAllBytesAsync(lab.Libvirt.File("pool/copy/nvram.fd")));
        }
        await lab.Libvirt.VirshAsync("start", "copy", "--paused");
        var made = XElement.Parse(await lab.Libvirt.VirshAsync("dumpxml", "copy"));
        Assert.Equal(lab.Libvirt.File("pool/copy/nvram.fd"), made.Element("os")!.Element("nvram")!.Value);
        Assert.Equal(["sata", "scsi"], made.Descendants("disk").Select(disk => disk.Element("target")!.Attribute("bus")!.Value).Order());
        await lab.Libvirt.VirshAsync("destroy", "copy");
    }

    /// <summary>Of a machine that is off.</summary>
    private static async Task<RestoreRequest> CaptureAsync(LibvirtLab lab)
    {
        var point = LibvirtLab.NewPoint();
        await using var capture = await lab.Driver.BeginCaptureAsync(lab.Request(point), default);
        await capture.CommitAsync(default);
        return lab.RestoreRequest(capture, point, "", "lab") with { KeepIdentity = true, Start = false, Contents = capture.Contents };
    }

    private static async Task<List<string>> BlocksAsync(LibvirtLab lab, RestoreRequest request) =>
        [.. (await lab.Driver.CheckRestoreAsync(request, default)).Where(finding => finding.Severity == FindingSeverity.Blocks).Select(finding => finding.Message)];

    /// <summary>The machine's definition, the names of its files, and what its disks hold.</summary>
    private static async Task<string> StateAsync(LibvirtLab lab)
    {
        var folder = lab.Libvirt.File("lab");
        var files = Directory.EnumerateFiles(folder).Where(path => !path.EndsWith(".replaced-x", StringComparison.Ordinal)).Order(StringComparer.Ordinal);
        var hashes = await Task.WhenAll(files.Select(async path => $"{path} {Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(await File.ReadAllBytesAsync(path)))}"));
        return await lab.Libvirt.VirshAsync("dumpxml", "lab", "--inactive", "--security-info") + string.Join('\n', hashes);
    }

    private static List<string> Differences(RestoredMachine machine)
    {
        var (captured, made) = (Flatten(machine.CapturedDescription!.Value, ""), Flatten(machine.Description!.Value, ""));
        return [.. captured.Keys.Union(made.Keys).Order(StringComparer.Ordinal).Where(key => captured.GetValueOrDefault(key) != made.GetValueOrDefault(key))
            .Select(key => $"{key}: {captured.GetValueOrDefault(key)} -> {made.GetValueOrDefault(key)}")];
    }

    // As the agent's report does: lists are matched by name, or by number.
    private static Dictionary<string, string> Flatten(JsonElement element, string path) => element.ValueKind switch
    {
        JsonValueKind.Object => element.EnumerateObject().SelectMany(member => Flatten(member.Value, path.Length == 0 ? member.Name : $"{path}.{member.Name}")).ToDictionary(),
        JsonValueKind.Array => element.EnumerateArray().Index().SelectMany(item => Flatten(item.Item,
            $"{path}.{(item.Item.ValueKind == JsonValueKind.Object && item.Item.TryGetProperty("name", out var name) ? name.GetString() : $"{item.Index}")}")).ToDictionary(),
        _ => new Dictionary<string, string> { [path] = element.ToString() },
    };
}
