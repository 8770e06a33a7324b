using System.Text.Json;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Qemu;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Conformance;

/// <summary>
/// The port on a real QEMU whose processors never start, so that its disks change only when a test writes to them. Agents that
/// are killed at any moment are for the proof kill-backup: QEMU tells by its socket who talks to it, and takes nobody in between.
/// </summary>
public sealed class QemuTests : TrackingConformance
{
    protected override async Task<TrackingMachine> StartTrackingAsync() => await StillQemuMachine.StartAsync();

    /// <summary>One history with every outcome after several others: each costs a start of QEMU.</summary>
    protected override IEnumerable<Outcome[]> Histories()
    {
        var all = Enum.GetValues<Outcome>();
        return [[.. all, .. all.Reverse()]];
    }
}

internal sealed class StillQemuMachine : TrackingMachine
{
    private readonly LabDirectory folder = new();
    private readonly Dictionary<string, (string Path, LabDiskFormat Format)> disks = [];
    private LabVm vm = null!;
    private int files;

    public override Id16 Id => new(UInt128.Parse(vm.Uuid.ToString("N"), System.Globalization.NumberStyles.AllowHexSpecifier));

    public override IReadOnlyList<string> Disks => [.. disks.Keys];

    public override IReadOnlyList<string> SkippedDisks => ["cd0"];

    public static async Task<StillQemuMachine> StartAsync()
    {
        var machine = new StillQemuMachine();
        try
        {
            var options = new List<LabDiskOptions>();
            foreach (var format in new[] { LabDiskFormat.Qcow2, LabDiskFormat.Raw })
            {
                var (name, path) = (LabDisk.NameOf(format), machine.folder.File(LabDisk.NameOf(format)));
                var raw = machine.folder.File("source");
                await File.WriteAllBytesAsync(raw, ServerDisks.Sparse(new Random(5), 1 << 20));
                await LabDisk.ConvertAsync(raw, LabDiskFormat.Raw, path, format);
                machine.disks.Add($"disk-{name}", (path, format));
                options.Add(new LabDiskOptions { NodeName = name, Format = format, UseInPlace = path, Bus = LabBus.VirtioScsi });
            }
            var medium = machine.folder.File("medium");
            await File.WriteAllBytesAsync(medium, new byte[64 << 10]);
            machine.vm = await LabVm.StartAsync(new LabVmOptions
            {
                Name = Name, Disks = options,
                ExtraArguments = ["-S", "-blockdev", $"driver=raw,node-name=medium,read-only=on,file.driver=file,file.filename={medium}", "-device", "scsi-cd,id=cd0,drive=medium,bus=scsi0.0"],
            });
            return machine;
        }
        catch
        {
            machine.folder.Dispose();
            throw;
        }
    }

    public override IHypervisor Connect() => new QemuHypervisor([new QemuMachine(Id, Name, vm.QmpPath)],
        new QemuOptions(folder.File("fleece")) { FleeceFreeBytesMin = 1 << 20 }, TimeProvider.System, SystemEntropy.Instance);

    public override async Task WriteAsync(string disk, long offset, byte[] data)
    {
        var source = folder.File($"data-{files++}");
        await File.WriteAllBytesAsync(source, data);
        foreach (var command in new[] { $"write -s {source} {offset} {data.Length}", "flush" })
        {
            var said = await vm.QmpAsync("human-monitor-command", $$"""{"command-line":{{JsonSerializer.Serialize($"qemu-io -d {disk} \"{command}\"")}}}""");
            Assert.DoesNotContain("rror", said.GetString(), StringComparison.Ordinal);
        }
        File.Delete(source);
    }

    public override Task<byte[]> ReadAsync(string disk) => ReadImageAsync(disks[disk].Path, disks[disk].Format);

    public override async Task<string?> FindLeftoversAsync()
    {
        var nodes = (await vm.QmpAsync("query-named-block-nodes", """{"flat":true}""")).EnumerateArray()
            .Select(node => node.GetProperty("node-name").GetString()!).Where(name => name.StartsWith("vb-", StringComparison.Ordinal)).ToList();
        var exports = (await vm.QmpAsync("query-block-exports")).GetArrayLength();
        var fleeces = Directory.Exists(folder.File("fleece")) ? Directory.GetFileSystemEntries(folder.File("fleece")) : [];
        return nodes.Count + exports + fleeces.Length == 0 ? null : $"nodes [{string.Join(' ', nodes)}], {exports} exports, files [{string.Join(' ', fleeces)}]";
    }

    public override Task BreakAsync() => vm.KillAsync();

    /// <summary>QEMU is killed: bitmaps of raw images are gone, those of qcow2 images inconsistent.</summary>
    public override async Task LoseTrackingAsync()
    {
        await vm.KillAsync();
        await vm.StartAgainAsync();
    }

    public override async Task<string> AddDiskAsync(byte[] content)
    {
        await File.WriteAllBytesAsync(folder.File("added"), content);
        await vm.QmpAsync("blockdev-add", $$$"""{"driver":"raw","node-name":"added","file":{"driver":"file","filename":"{{{folder.File("added")}}}"}}""");
        await vm.QmpAsync("device_add", """{"driver":"scsi-hd","id":"disk-added","drive":"added","bus":"scsi0.0"}""");
        disks.Add("disk-added", (folder.File("added"), LabDiskFormat.Raw));
        return "disk-added";
    }

    public override async Task RemoveDiskAsync(string disk)
    {
        await vm.QmpAsync("device_del", $$"""{"id":"{{disk}}"}""");
        await vm.WaitForEventAsync("DEVICE_DELETED");
        await vm.QmpAsync("blockdev-del", $$"""{"node-name":"{{disk["disk-".Length..]}}"}""");
        disks.Remove(disk);
    }

    public override async Task GrowDiskAsync(string disk, long length) =>
        await vm.QmpAsync("block_resize", $$"""{"node-name":"{{disk["disk-".Length..]}}","size":{{length}}}""");

    public override async Task MakeForeignAsync()
    {
        foreach (var disk in Disks)
        {
            await vm.QmpAsync("block-dirty-bitmap-add", $$"""{"node":"{{disk["disk-".Length..]}}","name":"other-tool","persistent":false}""");
        }
    }

    public override async Task<string> DescribeForeignAsync() => string.Join(' ',
        from node in (await vm.QmpAsync("query-named-block-nodes", """{"flat":true}""")).EnumerateArray()
        where node.TryGetProperty("dirty-bitmaps", out _)
        from bitmap in node.GetProperty("dirty-bitmaps").EnumerateArray()
        let name = bitmap.TryGetProperty("name", out var text) ? text.GetString()! : ""
        where name == "other-tool"
        select $"{node.GetProperty("node-name").GetString()} {name} {bitmap.GetProperty("recording").GetBoolean()}");

    public override string NewRestoreFolder() => folder.File($"r{files++}");

    public override bool HasRestored(string folder) => Directory.Exists(folder);

    public override Task<byte[]> ReadRestoredAsync(RestoredMachine restored, string disk) =>
        ReadImageAsync(restored.Details[$"disk {disk}"], disks[disk].Format);

    public override async ValueTask DisposeAsync()
    {
        await vm.DisposeAsync();
        folder.Dispose();
    }

    private async Task<byte[]> ReadImageAsync(string path, LabDiskFormat format)
    {
        if (format == LabDiskFormat.Raw)
        {
            return await File.ReadAllBytesAsync(path);
        }
        await LabDisk.ConvertAsync(path, format, folder.File("content"), LabDiskFormat.Raw, inUse: true);
        return await File.ReadAllBytesAsync(folder.File("content"));
    }
}
