using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>Copies of a paused machine's disks, taken past the product, by device id.</summary>
internal sealed class Reference
{
    private readonly Dictionary<string, string> _copies = [];

    public static async Task<Reference> TakeAsync(LabVm vm, string folder)
    {
        var reference = new Reference();
        Directory.CreateDirectory(folder);
        foreach (var disk in vm.Disks)
        {
            var copy = Path.Combine(folder, disk.DeviceId + ".raw");
            await LabDisk.ConvertAsync(disk.Path, disk.Format, copy, LabDiskFormat.Raw, inUse: true);
            reference._copies.Add(disk.DeviceId, copy);
        }
        return reference;
    }

    public Task AssertEqualAsync(IReadOnlyDictionary<string, string> restored) =>
        AssertEqualAsync(restored.ToDictionary(disk => disk.Key, disk => (disk.Value, Disks.FormatOf(disk.Value))));

    /// <summary>The same of a stopped machine's own disks.</summary>
    public Task AssertEqualAsync(LabVm vm) => AssertEqualAsync(vm.Disks.ToDictionary(disk => disk.DeviceId, disk => (disk.Path, disk.Format)));

    private async Task AssertEqualAsync(Dictionary<string, (string Path, LabDiskFormat Format)> restored)
    {
        Assert.Equal(_copies.Keys.Order(), restored.Keys.Order());
        foreach (var (disk, copy) in _copies)
        {
            Assert.True(
                await LabDisk.ContentEqualsAsync(copy, LabDiskFormat.Raw, restored[disk].Path, restored[disk].Format),
                $"The restored disk {disk} differs from its reference.");
        }
    }
}

internal static class Disks
{
    public static LabDiskFormat FormatOf(string path) => path.EndsWith(".raw", StringComparison.Ordinal) ? LabDiskFormat.Raw : LabDiskFormat.Qcow2;

    public static async Task<string> WriteRandomAsync(string path, int length)
    {
        await File.WriteAllBytesAsync(path, RandomNumberGenerator.GetBytes(length));
        return path;
    }
}

/// <summary>Outcomes as operators see them.</summary>
internal static class Outcomes
{
    /// <summary>One error, of one line, with this exit code and these words.</summary>
    public static string AssertOneError(CommandResult result, int exitCode, params string[] words)
    {
        Assert.True(exitCode == result.ExitCode, $"Exit code {result.ExitCode} instead of {exitCode}: {result.Stderr}");
        var error = Assert.Single(result.Errors);
        foreach (var word in words) Assert.Contains(word, error, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain("Exception", result.Stderr, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", result.Stderr, StringComparison.Ordinal);
        return error;
    }

    public static string PointOf(JsonElement point) => point.GetProperty("point_id").GetString()!;

    public static long ReadBytesOf(JsonElement point) => long.Parse(point.GetProperty("read_bytes").GetRawText(), CultureInfo.InvariantCulture);
}

/// <summary>
/// A machine whose guest never starts: its disks, one raw and one qcow2, hold still, and change when a test writes to them
/// through QEMU.
/// </summary>
internal sealed class StillVm : IAsyncDisposable
{
    private const int DiskBytes = 40 << 20;
    private readonly LabDirectory _disks = new();
    private int _scripts;

    public LabVm Vm { get; private set; } = null!;

    public static async Task<StillVm> StartAsync(string name)
    {
        var still = new StillVm();
        try
        {
            var disks = new List<LabDiskOptions>();
            foreach (var format in new[] { LabDiskFormat.Raw, LabDiskFormat.Qcow2 })
            {
                var path = still._disks.File(LabDisk.NameOf(format));
                await LabDisk.CreateRandomAsync(path, format, DiskBytes, seed: RandomNumberGenerator.GetInt32(int.MaxValue));
                disks.Add(new LabDiskOptions { NodeName = LabDisk.NameOf(format), Format = format, UseInPlace = path });
            }
            still.Vm = await LabVm.StartAsync(new LabVmOptions { Name = name, Disks = disks, ExtraArguments = ["-S"] });
            return still;
        }
        catch
        {
            still._disks.Dispose();
            throw;
        }
    }

    /// <summary>Writes new random bytes to both disks, as a guest would.</summary>
    public async Task WriteAsync(int offset, int length)
    {
        var random = await Disks.WriteRandomAsync(_disks.File($"random-{_scripts++}"), length);
        foreach (var disk in Vm.Disks)
        {
            var line = JsonSerializer.Serialize($"qemu-io -d /machine/peripheral/{disk.DeviceId}/virtio-backend \"write -s {random} {offset} {length}\"");
            var said = await Vm.QmpAsync("human-monitor-command", $"{{\"command-line\":{line}}}");
            Assert.DoesNotContain("rror", said.GetString(), StringComparison.Ordinal);
        }
        File.Delete(random);
    }

    /// <summary>What the product has in QEMU: block nodes and dirty bitmaps.</summary>
    public async Task<(IReadOnlyList<string> Nodes, IReadOnlyList<string> Bitmaps)> LookAsync()
    {
        var nodes = (await Vm.QmpAsync("query-named-block-nodes", """{"flat":true}""")).EnumerateArray().ToList();
        var bitmaps = nodes.Where(node => node.TryGetProperty("dirty-bitmaps", out _))
            .SelectMany(node => node.GetProperty("dirty-bitmaps").EnumerateArray()
                .Where(bitmap => bitmap.TryGetProperty("name", out _)).Select(bitmap => $"{node.GetProperty("node-name").GetString()} {bitmap.GetProperty("name").GetString()}"));
        return ([.. nodes.Select(node => node.GetProperty("node-name").GetString()!).Where(name => name.StartsWith("vb-", StringComparison.Ordinal))],
            [.. bitmaps.Where(name => name.Contains("virtbackup-", StringComparison.Ordinal)).Order()]);
    }

    public async ValueTask DisposeAsync()
    {
        await Vm.DisposeAsync();
        _disks.Dispose();
    }
}
