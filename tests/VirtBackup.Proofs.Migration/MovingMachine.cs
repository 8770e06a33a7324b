using System.Text.Json;
using System.Text.Json.Nodes;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Proofs.Migration;

/// <summary>
/// A machine of one disk whose firmware finds nothing to boot: it runs, and what its disk holds is what is written through it here. It is
/// found again wherever it was moved to. One caller at a time.
/// </summary>
internal sealed class MovingMachine : IAsyncDisposable
{
    public const string Name = "mover";
    private const string DeviceId = "disk-0";
    private readonly LabDirectory _directory = new();
    private readonly byte[] _content;
    private readonly byte[] _buffer;
    private BackgroundProc? _first;
    private (int Offset, byte[] Before) _last = (0, []);
    private string _monitor;

    private MovingMachine(int diskBytes, Random random)
    {
        _content = new byte[diskBytes];
        random.NextBytes(_content.AsSpan(0, diskBytes / 2));
        _buffer = new byte[1 << 20];
        Home = _directory.Path;
        Image = _directory.File("disk.qcow2");
        _monitor = _directory.File("lab-qmp.sock");
    }

    public Guid Uuid { get; } = Guid.NewGuid();

    /// <summary>Where it lies.</summary>
    public string Home { get; private set; }

    public string Image { get; private set; }

    public string QmpPath => Path.Combine(_directory.Path, "qmp.sock");

    public int Bytes => _content.Length;

    /// <summary>Its first home, where the agent of its configuration looks for it.</summary>
    public string FirstHome => _directory.Path;

    public IReadOnlyList<int> Processes => RestoredVm.ProcessesNaming(Uuid.ToString());

    public static async Task<MovingMachine> StartAsync(int diskBytes, Random random, CancellationToken cancellationToken)
    {
        var machine = new MovingMachine(diskBytes, random);
        try
        {
            var raw = machine._directory.File("first.raw");
            await File.WriteAllBytesAsync(raw, machine._content, cancellationToken);
            await LabDisk.ConvertAsync(raw, LabDiskFormat.Raw, machine.Image, LabDiskFormat.Qcow2, cancellationToken: cancellationToken);
            File.Delete(raw);
            machine._first = BackgroundProc.Start(LabVm.Program,
            [
                "-machine", "q35,accel=tcg", "-m", "64", "-uuid", $"{machine.Uuid}", "-name", $"guest={Name}", "-nodefaults", "-display", "none",
                "-blockdev", $"driver=qcow2,node-name=n0,file.driver=file,file.filename={machine.Image}", "-device", $"virtio-blk-pci,id={DeviceId},drive=n0,serial=n0",
                "-qmp", $"unix:{machine.QmpPath},server=on,wait=off", "-qmp", $"unix:{machine._monitor},server=on,wait=off",
            ], machine.FirstHome);
            await Installation.PollAsync("the machine's monitor", () => Task.FromResult(File.Exists(machine._monitor)));
            return machine;
        }
        catch
        {
            await machine.DisposeAsync();
            throw;
        }
    }

    /// <summary>It is where a migration took it.</summary>
    public void MovedTo(string folder)
    {
        Home = folder;
        Image = Path.Combine(folder, "disk-0.qcow2");
        using var record = JsonDocument.Parse(File.ReadAllText(Path.Combine(folder, "launch.json")));
        var own = record.RootElement.GetProperty("qmpSocket").GetString();
        _monitor = record.RootElement.GetProperty("arguments").EnumerateArray().Select(static argument => argument.GetString()!)
            .Where(static argument => argument.StartsWith("unix:", StringComparison.Ordinal)).Select(static argument => argument["unix:".Length..].Split(',')[0]).Single(path => path != own);
    }

    /// <summary>Writes random bytes somewhere, as its guest would, and remembers them.</summary>
    public async Task WriteAsync(Random random, int lengthMax, CancellationToken cancellationToken)
    {
        var length = 512 * random.Next(1, lengthMax / 512);
        var offset = 512L * random.NextInt64((Bytes - length) / 512);
        random.NextBytes(_buffer.AsSpan(0, length));
        var file = _directory.File("write.bin");
        await File.WriteAllBytesAsync(file, _buffer.AsMemory(0, length), cancellationToken);
        await OrderAsync($"write -s {file} {offset} {length}", cancellationToken);
        _last = ((int)offset, _content.AsSpan((int)offset, length).ToArray());
        _buffer.AsSpan(0, length).CopyTo(_content.AsSpan((int)offset));
    }

    /// <summary>Forgets the last write, which may have come when the machine stood still already.</summary>
    public void ForgetLastWrite()
    {
        _last.Before.CopyTo(_content.AsSpan(_last.Offset));
        _last = (0, []);
    }

    /// <summary>Changes the disk and forgets it.</summary>
    public Task SpoilAsync(CancellationToken cancellationToken) => OrderAsync($"write -P 0xa7 {Bytes / 4} 64k", cancellationToken);

    private async Task OrderAsync(string order, CancellationToken cancellationToken)
    {
        await using var monitor = await LabMonitor.ConnectAsync(_monitor, cancellationToken);
        var line = $"qemu-io -d /machine/peripheral/{DeviceId}/virtio-backend \"{order}\"";
        var answer = (await monitor.ExecuteAsync("human-monitor-command", new JsonObject { ["command-line"] = line }, cancellationToken)).GetString() ?? "";
        if (answer.Contains("rror", StringComparison.Ordinal) || answer.Contains("failed", StringComparison.Ordinal)) throw new LabException($"The machine could not write: {answer}");
    }

    /// <summary>As QEMU names it; null: it does not answer.</summary>
    public async Task<string?> ReadStatusAsync(CancellationToken cancellationToken)
    {
        try
        {
            using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            limit.CancelAfter(TimeSpan.FromSeconds(2));
            await using var monitor = await LabMonitor.ConnectAsync(_monitor, limit.Token);
            return (await monitor.ExecuteAsync("query-status", null, limit.Token)).GetProperty("status").GetString();
        }
        catch (Exception gone) when (gone is System.Net.Sockets.SocketException or IOException or LabException or OperationCanceledException && !cancellationToken.IsCancellationRequested)
        {
            return null;
        }
    }

    /// <summary>Whether its disk holds what was written, and nothing else.</summary>
    public async Task<bool> HoldsWhatWasWrittenAsync(CancellationToken cancellationToken)
    {
        var expected = _directory.File("expected.raw");
        await File.WriteAllBytesAsync(expected, _content, cancellationToken);
        try
        {
            return await LabDisk.ContentEqualsAsync(expected, LabDiskFormat.Raw, Image, LabDiskFormat.Qcow2, inUse: true, cancellationToken);
        }
        finally
        {
            File.Delete(expected);
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var process in Processes) await Proc.RunAsync("kill", ["-KILL", $"{process}"]);
        if (_first is not null) await _first.DisposeAsync();
        _directory.Dispose();
    }
}
