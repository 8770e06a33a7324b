using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Proofs.RestoreMatrix;

/// <summary>A machine that runs as a plain QEMU process.</summary>
internal sealed class QmpMachine : IMatrixMachine
{
    private const int GrowMiB = 8;
    private readonly LabDirectory folder = new();
    private readonly List<LoopDevice> loops = [];
    private readonly List<MatrixDisk> disks = [];
    private LabVm vm = null!;
    private bool isOff;

    private QmpMachine()
    {
    }

    public string Name => vm.Name;

    public IReadOnlyList<MatrixDisk> Disks => disks;

    private IEnumerable<MatrixDisk> DataDisks => disks.Where(disk => !disk.IsRoot);

    /// <param name="template">A raw image that every data disk begins with.</param>
    /// <param name="images">Further images, of which the machine gets overlays.</param>
    public static async Task<QmpMachine> BootAsync(string name, string template, IReadOnlyList<string> images, CancellationToken cancellationToken)
    {
        var machine = new QmpMachine();
        try
        {
            var guest = await LabGuest.GetAsync(cancellationToken);
            List<string> arguments = ["-device", "virtio-scsi-pci,id=scsi0"];
            foreach (var kind in Enum.GetValues<DiskKind>())
            {
                machine.disks.Add(await machine.MakeAsync(kind, kind.ToString().ToLowerInvariant(), template));
            }
            foreach (var (number, image) in images.Index())
            {
                var overlay = machine.folder.File($"image{number}.qcow2");
                var format = JsonDocument.Parse(await Proc.CheckAsync("qemu-img", ["info", "--output=json", image], cancellationToken: cancellationToken)).RootElement.GetProperty("format").GetString()!;
                await Proc.CheckAsync("qemu-img", ["create", "-q", "-f", "qcow2", "-b", image, "-F", format, overlay], cancellationToken: cancellationToken);
                machine.disks.Add(new MatrixDisk($"disk-image{number}", $"image{number}", overlay, "qcow2", DiskKind.Qcow2));
            }
            foreach (var disk in machine.disks)
            {
                arguments.AddRange(["-blockdev", NodeOf(disk).ToString(), "-device", $"scsi-hd,id={disk.Name},drive={disk.Node},bus=scsi0.0"]);
            }
            machine.vm = await LabVm.BootAsync(new LabVmOptions { Name = name, Disks = [new LabDiskOptions { NodeName = "root", CopyFrom = guest.RootDisk }], ExtraArguments = arguments }, cancellationToken);
            var root = machine.vm.Disk("root");
            machine.disks.Insert(0, new MatrixDisk(root.DeviceId, root.NodeName, root.Path, "qcow2", DiskKind.Qcow2, IsRoot: true));
            return machine;
        }
        catch
        {
            await machine.DisposeAsync();
            throw;
        }
    }

    public string Configure(InstalledAgent agent)
    {
        if (!isOff)
        {
            agent.Add(vm);
            return Name;
        }
        // The driver serves running machines; what is off is for the one of image files.
        agent.Add($"{Name}-off", Guid.NewGuid(), [.. disks.Select(disk => new InstalledImage(disk.Path, disk.Format == "raw" ? LabDiskFormat.Raw : LabDiskFormat.Qcow2, disk.Name))]);
        return $"{Name}-off";
    }

    public Task PauseAsync() => vm.QmpAsync("stop");

    public Task ResumeAsync() => vm.QmpAsync("cont");

    public async Task<bool> IsCutAsync() => (await vm.QmpAsync("query-block-exports")).GetArrayLength() == disks.Count;

    public async Task WriteAsync(Random random) => (await vm.ExecAsync(GuestWork.WriteLine("/dev/sd?", random))).EnsureSuccess();

    public Mode ModeOf(Scenario scenario, MatrixDisk disk) => Mode.Of(scenario, disk);

    public Task ForgetRestoredAsync(string name) => Task.CompletedTask;

    public async Task ChangeAsync(Scenario scenario, string template, Random random)
    {
        switch (scenario)
        {
            case Scenario.BitmapLost:
                await RemoveBitmapsAsync();
                break;
            case Scenario.DiskAdded:
                foreach (var kind in Enum.GetValues<DiskKind>())
                {
                    await PlugInAsync(await MakeAsync(kind, $"new-{kind.ToString().ToLowerInvariant()}", template) with { Added = true });
                }
                await vm.ExecAsync("for h in /sys/class/scsi_host/*; do echo '- - -' > $h/scan; done; sleep 0.2");
                break;
            case Scenario.DiskGrown:
                await GrowAsync();
                break;
            case Scenario.OverlayAdded:
                await AddOverlaysAsync();
                break;
            case Scenario.OverlayCommitted:
                await AddOverlaysAsync();
                await WriteAsync(random);
                await CommitOverlaysAsync();
                break;
            case Scenario.Rebooted:
                await vm.QmpAsync("system_reset");
                await vm.WaitForEventAsync("RESET");
                await vm.WaitForAgentAsync();
                break;
            case Scenario.Killed:
                await vm.KillAsync();
                await vm.StartAgainAsync();
                await vm.WaitForAgentAsync();
                break;
            case Scenario.Off:
                await vm.QuitAsync();
                isOff = true;
                break;
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (vm is not null) await vm.DisposeAsync();
        foreach (var loop in loops) await loop.DisposeAsync();
        folder.Dispose();
    }

    private static JsonElement NodeOf(MatrixDisk disk) => JsonSerializer.SerializeToElement(new Dictionary<string, object>
    {
        ["driver"] = disk.Format,
        ["node-name"] = disk.Node,
        ["file"] = new Dictionary<string, string> { ["driver"] = disk.Kind == DiskKind.Block ? "host_device" : "file", ["filename"] = disk.Path },
    });

    private async Task<MatrixDisk> MakeAsync(DiskKind kind, string name, string template)
    {
        var path = folder.File(name);
        if (kind == DiskKind.Qcow2)
        {
            await LabDisk.ConvertAsync(template, LabDiskFormat.Raw, path, LabDiskFormat.Qcow2);
            return new MatrixDisk($"disk-{name}", name, path, "qcow2", kind);
        }
        await Proc.CheckAsync("cp", ["--sparse=always", template, path]);
        if (kind == DiskKind.Block)
        {
            var loop = await LoopDevice.AttachAsync(path);
            loops.Add(loop);
            path = loop.Path;
        }
        return new MatrixDisk($"disk-{name}", name, path, "raw", kind);
    }

    private async Task RemoveBitmapsAsync()
    {
        foreach (var node in (await vm.QmpAsync("query-named-block-nodes", """{"flat":true}""")).EnumerateArray())
        {
            var name = node.GetProperty("node-name").GetString();
            if (!node.TryGetProperty("dirty-bitmaps", out var bitmaps) || DataDisks.All(disk => disk.Node != name))
            {
                continue;
            }
            foreach (var bitmap in bitmaps.EnumerateArray().Where(bitmap => bitmap.TryGetProperty("name", out _)))
            {
                await vm.QmpAsync("block-dirty-bitmap-remove", $$"""{"node":"{{name}}","name":"{{bitmap.GetProperty("name").GetString()}}"}""");
            }
        }
    }

    private async Task PlugInAsync(MatrixDisk disk)
    {
        await vm.QmpAsync("blockdev-add", NodeOf(disk).ToString());
        await vm.QmpAsync("device_add", $$"""{"driver":"scsi-hd","id":"{{disk.Name}}","drive":"{{disk.Node}}","bus":"scsi0.0"}""");
        disks.Add(disk);
    }

    private async Task GrowAsync()
    {
        foreach (var loop in loops) await loop.GrowAsync(GrowMiB);
        foreach (var disk in DataDisks)
        {
            var info = JsonDocument.Parse(await Proc.CheckAsync("qemu-img", ["info", "-U", "--output=json", "-f", disk.Format, disk.Path])).RootElement;
            var length = info.GetProperty("virtual-size").GetInt64() + (disk.Kind == DiskKind.Block ? 0 : GrowMiB * (long)FilesystemDisk.MiB);
            await vm.QmpAsync("block_resize", $$"""{"node-name":"{{disk.Node}}","size":{{length}}}""");
        }
    }

    private async Task AddOverlaysAsync()
    {
        for (var i = 0; i < disks.Count; i++)
        {
            var disk = disks[i];
            if (disk.IsRoot) continue;
            var overlay = folder.File($"{disk.Node}.overlay");
            await vm.QmpAsync("blockdev-snapshot-sync", $$"""{"node-name":"{{disk.Node}}","snapshot-file":"{{overlay}}","snapshot-node-name":"{{disk.Node}}-over","format":"qcow2"}""");
            disks[i] = disk with { Path = overlay, Format = "qcow2", Node = disk.Node + "-over" };
        }
    }

    private async Task CommitOverlaysAsync()
    {
        for (var i = 0; i < disks.Count; i++)
        {
            var disk = disks[i];
            if (disk.IsRoot) continue;
            await vm.QmpAsync("block-commit", $$"""{"job-id":"commit","device":"{{disk.Node}}"}""");
            await vm.WaitForEventAsync("BLOCK_JOB_READY");
            await vm.QmpAsync("block-job-complete", """{"device":"commit"}""");
            await vm.WaitForEventAsync("BLOCK_JOB_COMPLETED");
            var node = disk.Node[..^"-over".Length];
            var loop = loops.Find(candidate => candidate.File == folder.File(node));
            disks[i] = disk with { Node = node, Path = loop?.Path ?? folder.File(node.StartsWith("image", StringComparison.Ordinal) ? node + ".qcow2" : node), Format = disk.Kind == DiskKind.Qcow2 ? "qcow2" : "raw" };
        }
    }
}
