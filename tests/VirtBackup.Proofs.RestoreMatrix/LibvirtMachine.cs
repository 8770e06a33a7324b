using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Proofs.RestoreMatrix;

/// <summary>A machine of a private libvirtd. Its disks are vda (root), vdb, vdc, …</summary>
internal sealed class LibvirtMachine : IMatrixMachine
{
    private const int GrowMiB = 8;
    private readonly List<LoopDevice> loops = [];
    private readonly List<MatrixDisk> disks = [];
    private readonly LabLibvirt libvirt;
    private readonly LabDomain domain;
    private readonly string folder;

    private LibvirtMachine(LabLibvirt libvirt, string name)
    {
        this.libvirt = libvirt;
        domain = new LabDomain(libvirt, name, Guid.NewGuid());
        folder = Directory.CreateDirectory(libvirt.File(name)).FullName;
    }

    public string Name => domain.Name;

    public IReadOnlyList<MatrixDisk> Disks => disks;

    public static async Task<LibvirtMachine> BootAsync(LabLibvirt libvirt, string name, string template, IReadOnlyList<string> images)
    {
        var machine = new LibvirtMachine(libvirt, name);
        try
        {
            var root = Path.Combine(machine.folder, "root.qcow2");
            File.Copy((await LabGuest.GetAsync()).RootDisk, root);
            machine.disks.Add(new MatrixDisk("vda", "vda", root, "qcow2", DiskKind.Qcow2, IsRoot: true));
            foreach (var kind in Enum.GetValues<DiskKind>()) machine.disks.Add(await machine.MakeAsync(kind, template));
            foreach (var image in images)
            {
                var copy = Path.Combine(machine.folder, $"{machine.NextTarget()}.qcow2");
                await Proc.CheckAsync("qemu-img", ["convert", "-O", "qcow2", image, copy], TimeSpan.FromMinutes(30));
                machine.disks.Add(new MatrixDisk(machine.NextTarget(), machine.NextTarget(), copy, "qcow2", DiskKind.Qcow2));
            }
            await libvirt.GiveAsync(machine.folder);
            var ports = "<controller type='pci' index='0' model='pcie-root'/>" + string.Concat(Enumerable.Repeat("<controller type='pci' model='pcie-root-port'/>", 12));
            await machine.domain.DefineAsync(machine.domain.Xml(string.Concat(machine.disks.Select(XmlOf)), ports).Replace("panic=-1", "panic=-1 no_timer_check", StringComparison.Ordinal));
            await machine.domain.BootAsync();
            return machine;
        }
        catch
        {
            await machine.DisposeAsync();
            throw;
        }
    }

    public string Configure(InstalledAgent agent) => Name;

    public Task PauseAsync() => libvirt.VirshAsync("suspend", Name);

    public Task ResumeAsync() => libvirt.VirshAsync("resume", Name);

    public async Task<bool> IsCutAsync() => (await libvirt.TryVirshAsync("backup-dumpxml", Name)).ExitCode == 0;

    public async Task WriteAsync(Random random) => (await domain.ExecAsync(GuestWork.WriteLine("/dev/vd[b-z]", random))).EnsureSuccess();

    public async Task ChangeAsync(Scenario scenario, string template, Random random)
    {
        switch (scenario)
        {
            case Scenario.BitmapLost:
                await RemoveBitmapsAsync();
                break;
            case Scenario.DiskAdded:
                foreach (var kind in Enum.GetValues<DiskKind>()) await PlugInAsync(await MakeAsync(kind, template) with { Added = true });
                await domain.ExecAsync("sleep 0.5");
                break;
            case Scenario.DiskGrown:
                await GrowAsync();
                break;
            case Scenario.OverlayAdded:
                await AddOverlaysAsync();
                break;
            case Scenario.OverlayCommitted:
                var before = disks.ToList();
                await AddOverlaysAsync();
                await WriteAsync(random);
                foreach (var disk in disks.Where(disk => !disk.IsRoot)) await libvirt.VirshAsync("blockcommit", Name, disk.Name, "--active", "--pivot", "--wait");
                disks.Clear();
                disks.AddRange(before);
                break;
            case Scenario.Rebooted:
                await libvirt.VirshAsync("reset", Name);
                await Task.Delay(1000);
                await domain.ExecAsync("true");
                break;
            case Scenario.Killed:
                await domain.KillAsync();
                await domain.BootAsync();
                break;
            case Scenario.Off:
                await libvirt.VirshAsync("destroy", Name);
                break;
        }
    }

    public Mode ModeOf(Scenario scenario, MatrixDisk disk) => scenario switch
    {
        _ when disk.Format == "raw" => new("libvirt tracks changes of qcow2 images only, and this disk is raw"),
        Scenario.Full => new("no change tracking since an earlier recovery point"),
        Scenario.Killed => new("its change tracking is missing or inconsistent, since QEMU was not shut down cleanly"),
        _ when disk.IsRoot => Mode.Changed,
        Scenario.BitmapLost => new("its change tracking is missing or inconsistent"),
        Scenario.DiskAdded when disk.Added => new("it was not part of the last recovery point"),
        Scenario.DiskGrown => new("it was resized from"),
        // A raw disk under an overlay is a qcow2 disk that could not be tracked before.
        Scenario.OverlayAdded when disk.Kind != DiskKind.Qcow2 => new("could not keep change tracking then"),
        _ => Mode.Changed,
    };

    public async Task ForgetRestoredAsync(string name) => await libvirt.VirshAsync("undefine", name);

    public async ValueTask DisposeAsync()
    {
        await libvirt.TryVirshAsync("destroy", Name);
        await libvirt.TryVirshAsync("undefine", Name, "--checkpoints-metadata", "--snapshots-metadata");
        foreach (var loop in loops) await loop.DisposeAsync();
        Directory.Delete(folder, recursive: true);
    }

    private static string XmlOf(MatrixDisk disk) =>
        LabLibvirt.DiskXml(disk.Name, disk.Path, disk.Format == "raw" ? LabDiskFormat.Raw : LabDiskFormat.Qcow2, disk.Kind == DiskKind.Block ? "block" : "file");

    private string NextTarget() => $"vd{(char)('a' + disks.Count)}";

    private async Task<MatrixDisk> MakeAsync(DiskKind kind, string template)
    {
        var target = NextTarget();
        var path = Path.Combine(folder, target);
        if (kind == DiskKind.Qcow2) await LabDisk.ConvertAsync(template, LabDiskFormat.Raw, path, LabDiskFormat.Qcow2);
        else await Proc.CheckAsync("cp", ["--sparse=always", template, path]);
        await libvirt.GiveAsync(path);
        if (kind == DiskKind.Block)
        {
            var loop = await LoopDevice.AttachAsync(path);
            loops.Add(loop);
            path = loop.Path;
            await libvirt.GiveAsync(path);
        }
        return new MatrixDisk(target, target, path, kind == DiskKind.Qcow2 ? "qcow2" : "raw", kind);
    }

    private async Task<JsonElement> QmpAsync(object command) =>
        JsonDocument.Parse(await libvirt.VirshAsync("qemu-monitor-command", Name, JsonSerializer.Serialize(command))).RootElement.GetProperty("return");

    private async Task RemoveBitmapsAsync()
    {
        foreach (var node in (await QmpAsync(new { execute = "query-named-block-nodes", arguments = new { flat = true } })).EnumerateArray())
        {
            if (!node.TryGetProperty("dirty-bitmaps", out var bitmaps) || node.GetProperty("file").GetString() == disks[0].Path) continue;
            foreach (var bitmap in bitmaps.EnumerateArray().Where(bitmap => bitmap.TryGetProperty("name", out _)))
            {
                await QmpAsync(new { execute = "block-dirty-bitmap-remove", arguments = new { node = node.GetProperty("node-name").GetString(), name = bitmap.GetProperty("name").GetString() } });
            }
        }
    }

    private async Task PlugInAsync(MatrixDisk disk)
    {
        disks.Add(disk);
        var xml = Path.Combine(folder, $"{disk.Name}.xml");
        await File.WriteAllTextAsync(xml, XmlOf(disk));
        await libvirt.VirshAsync("attach-device", Name, xml, "--live", "--config");
    }

    private async Task GrowAsync()
    {
        foreach (var loop in loops) await loop.GrowAsync(GrowMiB);
        foreach (var disk in disks.Where(disk => !disk.IsRoot))
        {
            var info = JsonDocument.Parse(await Proc.CheckAsync("qemu-img", ["info", "-U", "--output=json", "-f", disk.Format, disk.Path])).RootElement;
            var length = info.GetProperty("virtual-size").GetInt64() + (disk.Kind == DiskKind.Block ? 0 : GrowMiB * (long)FilesystemDisk.MiB);
            await libvirt.VirshAsync("blockresize", Name, disk.Name, $"{length}B");
        }
    }

    private async Task AddOverlaysAsync()
    {
        List<string> arguments = ["snapshot-create-as", Name, "--disk-only", "--no-metadata", "--diskspec", "vda,snapshot=no"];
        for (var i = 0; i < disks.Count; i++)
        {
            if (disks[i].IsRoot) continue;
            var overlay = Path.Combine(folder, $"{disks[i].Name}.overlay");
            arguments.AddRange(["--diskspec", $"{disks[i].Name},snapshot=external,file={overlay}"]);
            disks[i] = disks[i] with { Path = overlay, Format = "qcow2" };
        }
        await libvirt.VirshAsync([.. arguments]);
    }
}
