using System.Text.Json;
using System.Text.Json.Nodes;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Proofs.Migration;

/// <summary>
/// A machine of two disks, qcow2 and raw, whose firmware finds nothing to boot: it runs, and what its disks hold is what is written through
/// it here. One caller at a time.
/// </summary>
internal sealed class MirroredMachine : IAsyncDisposable
{
    public const string Name = "mirrored";
    private readonly LabDirectory _directory = new();
    private readonly List<byte[]> _contents = [];
    private readonly string[] _images;
    private readonly byte[] _buffer = new byte[256 << 10];
    private BackgroundProc? _process;
    private (int Disk, int Offset, byte[] Before)? _last;

    private MirroredMachine(int diskBytes, Random random)
    {
        for (var disk = 0; disk < Formats.Count; disk++)
        {
            var content = new byte[diskBytes];
            random.NextBytes(content.AsSpan(0, diskBytes / 2));
            _contents.Add(content);
        }
        _images = [_directory.File("one.qcow2"), _directory.File("two.raw")];
    }

    public static IReadOnlyList<LabDiskFormat> Formats { get; } = [LabDiskFormat.Qcow2, LabDiskFormat.Raw];

    public Guid Uuid { get; } = Guid.NewGuid();

    public IReadOnlyList<string> Images => _images;

    public string QmpPath => _directory.File("qmp.sock");

    public bool HasEnded => _process is null || _process.HasExited;

    private string Monitor => _directory.File("lab-qmp.sock");

    public static async Task<MirroredMachine> StartAsync(int diskBytes, Random random, CancellationToken cancellationToken)
    {
        var machine = new MirroredMachine(diskBytes, random);
        try
        {
            foreach (var (disk, format) in Formats.Index())
            {
                var raw = machine._directory.File("first.raw");
                await File.WriteAllBytesAsync(raw, machine._contents[disk], cancellationToken);
                await LabDisk.ConvertAsync(raw, LabDiskFormat.Raw, machine._images[disk], format, cancellationToken: cancellationToken);
                File.Delete(raw);
            }
            await machine.StartAgainAsync();
            return machine;
        }
        catch
        {
            await machine.DisposeAsync();
            throw;
        }
    }

    /// <summary>Starts its QEMU on the images that it has now.</summary>
    public async Task StartAgainAsync()
    {
        if (_process is not null) await _process.DisposeAsync();
        foreach (var socket in new[] { QmpPath, Monitor }) File.Delete(socket);
        List<string> arguments =
        [
            "-machine", "q35,accel=tcg", "-m", "64", "-uuid", $"{Uuid}", "-name", $"guest={Name}", "-nodefaults", "-display", "none",
            "-qmp", $"unix:{QmpPath},server=on,wait=off", "-qmp", $"unix:{Monitor},server=on,wait=off",
        ];
        foreach (var (disk, format) in Formats.Index())
        {
            arguments.AddRange(["-blockdev", $"driver={LabDisk.NameOf(format)},node-name=n{disk},file.driver=file,file.filename={_images[disk]}", "-device", $"virtio-blk-pci,id=d{disk},drive=n{disk}"]);
        }
        _process = BackgroundProc.Start(LabVm.Program, arguments, _directory.Path);
        await Installation.PollAsync("the machine's monitor", async () => await ReadStatusAsync(default) == "running");
    }

    public Task KillAsync(CancellationToken cancellationToken) => _process!.KillAsync(cancellationToken);

    /// <summary>Where a disk lies now.</summary>
    public void FollowMove(int disk, string path) => _images[disk] = path;

    /// <summary>Writes random bytes somewhere, durably, if the machine runs; remembers them.</summary>
    public async Task WriteAsync(Random random, CancellationToken cancellationToken)
    {
        if (await ReadStatusAsync(cancellationToken) != "running") return;
        var disk = random.Next(_contents.Count);
        var length = 512 * random.Next(1, _buffer.Length / 512);
        var offset = 512 * random.Next((_contents[disk].Length - length) / 512);
        random.NextBytes(_buffer.AsSpan(0, length));
        var file = _directory.File("write.bin");
        await File.WriteAllBytesAsync(file, _buffer.AsMemory(0, length), cancellationToken);
        _last = (disk, offset, _contents[disk].AsSpan(offset, length).ToArray());
        _buffer.AsSpan(0, length).CopyTo(_contents[disk].AsSpan(offset));
        var line = $"qemu-io -d /machine/peripheral/d{disk}/virtio-backend \"write -f -s {file} {offset} {length}\"";
        var answer = await AskAsync("human-monitor-command", new JsonObject { ["command-line"] = line }, cancellationToken);
        if ((answer.GetString() ?? "") is var said && (said.Contains("rror", StringComparison.Ordinal) || said.Contains("failed", StringComparison.Ordinal))) throw new LabException($"The machine could not write: {said}");
    }

    /// <summary>Changes a disk and forgets it.</summary>
    public Task SpoilAsync(CancellationToken cancellationToken) => AskAsync("human-monitor-command",
        new JsonObject { ["command-line"] = $"qemu-io -d /machine/peripheral/d0/virtio-backend \"write -f -P 0xa7 {_contents[0].Length / 4} 64k\"" }, cancellationToken);

    /// <summary>As QEMU names it; null: it does not answer.</summary>
    public async Task<string?> ReadStatusAsync(CancellationToken cancellationToken)
    {
        try
        {
            return (await AskAsync("query-status", null, cancellationToken)).GetProperty("status").GetString();
        }
        catch (Exception gone) when (gone is System.Net.Sockets.SocketException or IOException or LabException or OperationCanceledException && !cancellationToken.IsCancellationRequested)
        {
            return null;
        }
    }

    public async Task<JsonElement> AskAsync(string command, JsonNode? arguments, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(TimeSpan.FromSeconds(20));
        await using var monitor = await LabMonitor.ConnectAsync(Monitor, limit.Token);
        return await monitor.ExecuteAsync(command, arguments, limit.Token);
    }

    /// <summary>A disk that holds something else than what was written, or null.</summary>
    /// <param name="lastIsOpen">Of the last write nobody was told that it was done.</param>
    public async Task<string?> FindDifferenceAsync(bool lastIsOpen, CancellationToken cancellationToken)
    {
        for (var disk = 0; disk < Formats.Count; disk++)
        {
            if (await EqualsAsync(disk, cancellationToken)) continue;
            if (!lastIsOpen || _last is not { } last || last.Disk != disk) return $"disk {disk} at {_images[disk]}";
            last.Before.CopyTo(_contents[disk].AsSpan(last.Offset));
            if (!await EqualsAsync(disk, cancellationToken)) return $"disk {disk} at {_images[disk]}, with its last write and without";
        }
        return null;
    }

    private async Task<bool> EqualsAsync(int disk, CancellationToken cancellationToken)
    {
        var expected = _directory.File("expected.raw");
        await File.WriteAllBytesAsync(expected, _contents[disk], cancellationToken);
        return await LabDisk.ContentEqualsAsync(expected, LabDiskFormat.Raw, _images[disk], Formats[disk], inUse: true, cancellationToken);
    }

    public async ValueTask DisposeAsync()
    {
        if (_process is not null) await _process.DisposeAsync();
        _directory.Dispose();
    }
}
