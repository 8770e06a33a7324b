using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Libvirt;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Libvirt;

/// <summary>Calls on threads that may wait.</summary>
internal sealed class WaitingThreads : IBlockingCalls
{
    public Task<T> RunAsync<T>(Func<T> call) => Task.Factory.StartNew(call, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
}

/// <summary>A machine of a private libvirtd, the driver under test, and a stand-in for the repository: the bytes of the last point of each disk.</summary>
internal sealed class LibvirtLab : IAsyncDisposable
{
    private readonly LabDirectory scratch = new();
    private readonly List<LibvirtHypervisor> drivers = [];
    private readonly Dictionary<string, byte[]> content = [];

    private LibvirtLab(LabLibvirt libvirt, LabDomain domain)
    {
        Libvirt = libvirt;
        Domain = domain;
        // Folders on the way must be open to QEMU's user; the capture's own is not open to anybody else.
        Fleece = scratch.File("f");
        if (!OperatingSystem.IsWindows()) File.SetUnixFileMode(scratch.Path, (UnixFileMode)0b111_001_001);
        Options = new LibvirtOptions([libvirt.Uri], Fleece) { FleeceFreeBytesMin = 1 << 20 };
        Driver = NewDriver();
    }

    public LabLibvirt Libvirt { get; }

    public LabDomain Domain { get; }

    public string Fleece { get; }

    public LibvirtOptions Options { get; set; }

    public LibvirtHypervisor Driver { get; private set; }

    public Id16 Machine => new(UInt128.Parse(Domain.Uuid.ToString("N"), System.Globalization.NumberStyles.AllowHexSpecifier));

    public static async Task<LibvirtLab> DefineAsync(
        LabDiskFormat dataFormat = LabDiskFormat.Qcow2, Func<LabLibvirt, Task<string>>? extraDisks = null, string extraDevices = "", bool isSystem = false)
    {
        var libvirt = isSystem ? await LabLibvirt.StartSystemAsync() : await LabLibvirt.StartAsync();
        try
        {
            return new LibvirtLab(libvirt, await libvirt.DefineAsync("lab", dataFormat, extraDisks is null ? "" : await extraDisks(libvirt), extraDevices));
        }
        catch
        {
            await libvirt.DisposeAsync();
            throw;
        }
    }

    public static async Task<LibvirtLab> BootAsync(LabDiskFormat dataFormat = LabDiskFormat.Qcow2, Func<LabLibvirt, Task<string>>? extraDisks = null, bool isSystem = false)
    {
        var lab = await DefineAsync(dataFormat, extraDisks, isSystem: isSystem);
        try
        {
            await lab.Domain.BootAsync();
            return lab;
        }
        catch
        {
            await lab.DisposeAsync();
            throw;
        }
    }

    /// <summary>A driver without memory of what an earlier one did, as after a restart of the agent.</summary>
    public LibvirtHypervisor NewDriver()
    {
        Driver = new LibvirtHypervisor(Options, TimeProvider.System, SystemEntropy.Instance, new WaitingThreads());
        drivers.Add(Driver);
        return Driver;
    }

    public static Id16 NewPoint() => Id16.Create(SystemEntropy.Instance);

    public CaptureRequest Request(Id16 point, Id16? basePoint = null) => new(Machine, point, basePoint, new HashSet<string>());

    public async Task WriteAsync(string path, int kibibytes) =>
        (await Domain.ExecAsync($"dd if=/dev/urandom of={path} bs=1k count={kibibytes} conv=notrunc 2>/dev/null && sync")).EnsureSuccess();

    /// <summary>The path of a disk's image now.</summary>
    public async Task<(string Path, LabDiskFormat Format)> ImageAsync(string target)
    {
        var xml = System.Xml.Linq.XElement.Parse(await Libvirt.VirshAsync("dumpxml", "lab"));
        var disk = xml.Descendants("disk").Single(disk => disk.Element("target")!.Attribute("dev")!.Value == target);
        var source = disk.Element("source")!;
        return ((source.Attribute("file") ?? source.Attribute("dev"))!.Value, disk.Element("driver")!.Attribute("type")!.Value == "raw" ? LabDiskFormat.Raw : LabDiskFormat.Qcow2);
    }

    /// <summary>Reads what a capture lists over the content of the point before, and keeps it as the content of this point.</summary>
    /// <returns>Bytes read.</returns>
    public async Task<long> ReadAsync(ICapture capture)
    {
        var total = 0L;
        foreach (var disk in capture.Disks)
        {
            var bytes = new byte[disk.Disk.LengthBytes];
            if (disk.ChangedOnly) content[disk.Disk.Name].CopyTo(bytes, 0);
            await foreach (var extent in disk.ListExtentsAsync(default))
            {
                total += extent.Length;
                for (var offset = extent.Offset; offset < extent.End; offset += 256 << 10)
                {
                    await disk.ReadAsync(offset, bytes.AsMemory((int)offset, (int)Math.Min(256 << 10, extent.End - offset)), default);
                }
            }
            content[disk.Disk.Name] = bytes;
        }
        return total;
    }

    /// <summary>A part of what the last point of a disk holds.</summary>
    public ReadOnlyMemory<byte> ContentOf(string disk, ByteRange range) => content[disk].AsMemory((int)range.Offset, (int)range.Length);

    /// <summary>Pauses the guest, takes the reference by qemu-img, cuts, and lets the guest go on: both see the same instant.</summary>
    public async Task<(ICapture Capture, Dictionary<string, string> Reference)> CutWithReferenceAsync(CaptureRequest request)
    {
        await Libvirt.VirshAsync("suspend", "lab");
        var reference = new Dictionary<string, string>();
        foreach (var disk in (await Driver.ListMachinesAsync(default)).Single().Disks.Where(disk => disk.SkipReason is null))
        {
            var (path, format) = await ImageAsync(disk.Name);
            reference[disk.Name] = await LabDisk.Sha256Async(path, format, inUse: true);
        }
        var capture = await Driver.BeginCaptureAsync(request, default);
        await Libvirt.VirshAsync("resume", "lab");
        return (capture, reference);
    }

    public void AssertContent(Dictionary<string, string> reference)
    {
        foreach (var (name, hash) in reference)
        {
            Assert.True(hash == Convert.ToHexStringLower(SHA256.HashData(content[name])), $"Disk {name} differs from its reference.");
        }
    }

    /// <summary>A complete run after a settlement: cut, read, compare with the reference, commit.</summary>
    /// <returns>Bytes read, and why each disk was read as it was.</returns>
    public async Task<(long Bytes, Dictionary<string, string> Reasons)> BackUpAsync(Id16 point, params Id16[] committed)
    {
        var basis = await Driver.SettleAsync(Machine, committed.ToHashSet(), default);
        var (capture, reference) = await CutWithReferenceAsync(Request(point, basis));
        await using (capture)
        {
            var bytes = await ReadAsync(capture);
            AssertContent(reference);
            await capture.CommitAsync(default);
            return (bytes, capture.Disks.ToDictionary(disk => disk.Disk.Name, disk => disk.Reason));
        }
    }

    public RestoreRequest RestoreRequest(ICapture capture, Id16 point, string folder, string name) =>
        new(Machine, point, "libvirt", capture.Configuration,
            [.. capture.Disks.Select(disk => new RestoreDisk(disk.Disk.Id, disk.Disk.Name, disk.Disk.LengthBytes, disk.Disk.Format, disk.Disk.LengthBytes / 4))], folder, name);

    /// <summary>Restores the kept content, its zero blocks left out.</summary>
    public async Task<RestoredMachine> RestoreAsync(RestoreRequest request)
    {
        await using var restore = await Driver.BeginRestoreAsync(request, default);
        foreach (var disk in restore.Disks)
        {
            var bytes = content[disk.Disk.Name];
            for (var offset = 0; offset < bytes.Length; offset += 128 << 10)
            {
                var source = bytes.AsMemory(offset, Math.Min(128 << 10, bytes.Length - offset));
                if (source.Span.ContainsAnyExcept((byte)0)) await disk.WriteAsync(offset, source, default);
            }
        }
        return await restore.CompleteAsync(default);
    }

    /// <summary>Reads a file of a restored guest when it is up.</summary>
    public static async Task<byte[]> ReadFileAsync(string agentPath, string path)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromMinutes(2));
        await using var agent = await LabGuestAgent.ConnectAsync(agentPath, limit.Token);
        return await agent.ReadFileAsync(path, limit.Token);
    }

    public async Task<string[]> CheckpointsAsync() =>
        (await Libvirt.VirshAsync("checkpoint-list", "lab", "--name")).Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);

    /// <summary>No job runs, and nothing lies in the fleece folder.</summary>
    public async Task AssertCleanAsync()
    {
        Assert.NotEqual(0, (await Libvirt.TryVirshAsync("backup-dumpxml", "lab")).ExitCode);
        Assert.Empty(Directory.Exists(Fleece) ? Directory.GetFileSystemEntries(Fleece) : []);
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var driver in drivers) await driver.DisposeAsync();
        await Libvirt.DisposeAsync();
        scratch.Dispose();
    }
}
