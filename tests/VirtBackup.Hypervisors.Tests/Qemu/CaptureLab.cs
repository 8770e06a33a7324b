using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Qemu;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Qemu;

/// <summary>A lab machine, the driver under test, and a stand-in for the repository: the bytes of the last point of each disk.</summary>
internal sealed class CaptureLab : IAsyncDisposable
{
    private readonly LabDirectory scratch = new();
    private Dictionary<string, byte[]> content = [];

    private CaptureLab(LabVm vm, Func<string, QemuOptions>? options)
    {
        Vm = vm;
        Options = options?.Invoke(scratch.Path) ?? new QemuOptions(scratch.File("fleece")) { FleeceFreeBytesMin = 1 << 20, StateFolder = scratch.File("state") };
        Machine = new QemuMachine(new Id16(UInt128.Parse(vm.Uuid.ToString("N"), System.Globalization.NumberStyles.AllowHexSpecifier)),
            vm.Name, vm.QmpPath, vm.GuestAgentPath);
    }

    public LabVm Vm { get; }

    public QemuOptions Options { get; set; }

    public QemuMachine Machine { get; set; }

    public LabDirectory Scratch => scratch;

    /// <summary>A driver without memory of what an earlier one did, as after a restart of the agent.</summary>
    public QemuHypervisor Driver => new([Machine], Options, TimeProvider.System, SystemEntropy.Instance);

    /// <summary>The lab guest with its root on qcow2 and its data on a raw image.</summary>
    public static async Task<CaptureLab> BootAsync(LabVmOptions? vm = null, Func<string, QemuOptions>? options = null)
    {
        var guest = await LabGuest.GetAsync();
        vm ??= new LabVmOptions();
        vm = vm with
        {
            Disks = vm.Disks ??
            [
                new LabDiskOptions { NodeName = "root", CopyFrom = guest.RootDisk },
                new LabDiskOptions { NodeName = "data", CopyFrom = guest.DataDisk, Format = LabDiskFormat.Raw },
            ],
        };
        return new CaptureLab(await LabVm.BootAsync(vm), options);
    }

    /// <summary>A machine whose guest need not be up: QEMU answers at once.</summary>
    public static async Task<CaptureLab> StartAsync(LabVmOptions? vm = null) => new(await LabVm.StartAsync(vm), null);

    /// <summary>The content of the last point, to go back to when a later one is dropped.</summary>
    public IReadOnlyDictionary<string, byte[]> Keep() => new Dictionary<string, byte[]>(content);

    public void GoBack(IReadOnlyDictionary<string, byte[]> kept) => content = new Dictionary<string, byte[]>(kept);

    public static Id16 NewPoint() => Id16.Create(SystemEntropy.Instance);

    public CaptureRequest Request(Id16 point, Id16? basePoint = null) =>
        new(Machine.Uuid, point, basePoint, new HashSet<string>());

    public Task WriteAsync(string path, int kibibytes) =>
        Vm.ExecAsync($"dd if=/dev/urandom of={path} bs=1k count={kibibytes} conv=notrunc 2>/dev/null && sync");

    /// <summary>Reads what a capture lists over the content of the point before, and keeps it as the content of this point.</summary>
    /// <returns>Bytes read.</returns>
    public async Task<long> ReadAsync(ICapture capture)
    {
        var total = 0L;
        foreach (var disk in capture.Disks)
        {
            var bytes = new byte[disk.Disk.LengthBytes];
            if (disk.ChangedOnly)
            {
                content[disk.Disk.Name].CopyTo(bytes, 0);
            }
            total += await ReadAsync(disk, bytes);
            content[disk.Disk.Name] = bytes;
        }
        return total;
    }

    private static async Task<long> ReadAsync(ICapturedDisk disk, byte[] target)
    {
        var reads = new List<Task>();
        long total = 0, end = 0;
        await foreach (var extent in disk.ListExtentsAsync(default))
        {
            Assert.True(extent.Offset >= end && extent.Length > 0 && extent.End <= disk.Disk.LengthBytes);
            end = extent.End;
            total += extent.Length;
            for (var offset = extent.Offset; offset < extent.End; offset += 256 << 10)
            {
                reads.Add(disk.ReadAsync(offset, target.AsMemory((int)offset, (int)Math.Min(256 << 10, extent.End - offset)), default).AsTask());
            }
        }
        await Task.WhenAll(reads);
        return total;
    }

    /// <summary>The content of all disks now, by qemu-img, while the machine is paused.</summary>
    public async Task<Dictionary<string, string>> ReferenceAsync()
    {
        var hashes = new Dictionary<string, string>();
        foreach (var disk in Vm.Disks)
        {
            hashes[disk.DeviceId] = await LabDisk.Sha256Async(disk.Path, disk.Format, inUse: true);
        }
        return hashes;
    }

    public void AssertContent(Dictionary<string, string> reference)
    {
        Assert.Equal(reference.Keys.Order(), content.Keys.Order());
        foreach (var (name, hash) in reference)
        {
            Assert.True(hash == Convert.ToHexStringLower(SHA256.HashData(content[name])), $"Disk {name} differs from its reference.");
        }
    }

    /// <summary>Pauses the guest, takes the reference, cuts, and lets the guest go on: both see the same instant.</summary>
    public async Task<(ICapture Capture, Dictionary<string, string> Reference)> CutWithReferenceAsync(CaptureRequest request)
    {
        await Vm.QmpAsync("stop");
        var reference = await ReferenceAsync();
        var capture = await Driver.BeginCaptureAsync(request, default);
        await Vm.QmpAsync("cont");
        return (capture, reference);
    }

    /// <summary>A complete run: cut, read, compare, commit.</summary>
    /// <returns>Bytes read.</returns>
    public async Task<long> BackUpAsync(Id16 point, Id16? basePoint = null)
    {
        var (capture, reference) = await CutWithReferenceAsync(Request(point, basePoint));
        await using (capture)
        {
            var total = await ReadAsync(capture);
            AssertContent(reference);
            await capture.CommitAsync(default);
            return total;
        }
    }

    public RestoreRequest RestoreRequest(ICapture capture, Id16 point, string folder, string name) =>
        new(Machine.Uuid, point, "qemu", capture.Configuration,
            [.. capture.Disks.Select(disk => new RestoreDisk(disk.Disk.Id, disk.Disk.Name, disk.Disk.LengthBytes, disk.Disk.Format, disk.Disk.LengthBytes / 4))], folder, name);

    /// <summary>Restores the kept content, its zero blocks left out.</summary>
    public async Task<RestoredMachine> RestoreAsync(RestoreRequest request)
    {
        await using var restore = await Driver.BeginRestoreAsync(request, default);
        foreach (var disk in restore.Disks)
        {
            const int block = 128 << 10;
            var bytes = content[disk.Disk.Name];
            var writes = new List<Task>();
            for (var offset = 0; offset < bytes.Length; offset += block)
            {
                var source = bytes.AsMemory(offset, Math.Min(block, bytes.Length - offset));
                if (source.Span.ContainsAnyExcept((byte)0))
                {
                    writes.Add(disk.WriteAsync(offset, source, default).AsTask());
                }
            }
            await Task.WhenAll(writes);
        }
        return await restore.CompleteAsync(default);
    }

    /// <summary>Nothing of ours is in QEMU or in the fleece folder, except tracking.</summary>
    public async Task AssertCleanAsync()
    {
        var nodes = await Vm.QmpAsync("query-named-block-nodes", """{"flat":true}""");
        Assert.DoesNotContain(nodes.EnumerateArray(), node => node.GetProperty("node-name").GetString()!.StartsWith("vb-", StringComparison.Ordinal));
        Assert.Empty((await Vm.QmpAsync("query-block-exports")).EnumerateArray());
        Assert.Empty(Directory.Exists(Options.FleeceFolder) ? Directory.GetFileSystemEntries(Options.FleeceFolder) : []);
        var address = "{\"addr\":{\"type\":\"unix\",\"data\":{\"path\":\"" + scratch.File("probe.sock") + "\"}}}";
        await Vm.QmpAsync("nbd-server-start", address); // fails if one was left running
        await Vm.QmpAsync("nbd-server-stop");
    }

    public async ValueTask DisposeAsync()
    {
        await Vm.DisposeAsync();
        scratch.Dispose();
    }
}
