using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Comparison;

/// <summary>VirtBackup as it ships: a controller and an agent, both with their defaults. A repository of its own for each turn, so that nothing is known already; the one thing in it is a small image's backup.</summary>
internal sealed class OwnTool(ComparedGuest guest, string folder) : ITool, IAsyncDisposable
{
    public const string CheckpointPrefix = "virtbackup-";
    private const string Small = "small";
    private const int SmallBytes = 2 << 20;
    private Installation? _installation;
    private InstalledAgent? _agent;
    private string _point = "";
    private int _restores;

    public string Name => "virtbackup";

    public Installation Site => _installation!;

    public InstalledAgent Agent => _agent!;

    public async Task BeginAsync()
    {
        var repository = Path.Combine(folder, "repository");
        Directory.CreateDirectory(repository);
        var small = Path.Combine(folder, "small.raw");
        await File.WriteAllBytesAsync(small, System.Security.Cryptography.RandomNumberGenerator.GetBytes(SmallBytes));
        (_installation, _agent) = await Installation.StartAsync(
            (installation, agent) =>
            {
                agent.Add(guest.Libvirt, installation.File("f-libvirt"));
                agent.Add(Small, Guid.NewGuid(), new InstalledImage(small, LabDiskFormat.Raw, "disk"));
            }, repository);
        await Site.WaitForMachineAsync(guest.Name);
        await Site.WaitForMachineAsync(Small);
        // Services have made a backup before, unless it is their first day.
        await Site.BackUpAsync(Small);
    }

    public async Task BackUpFullyAsync() => await BackUpAsync("--full");

    public async Task BackUpChangesAsync()
    {
        var point = await BackUpAsync();
        foreach (var stream in point.GetProperty("streams").EnumerateArray())
        {
            var reason = stream.GetProperty("read_reason").GetString();
            if (stream.GetProperty("name").GetString() == ComparedGuest.Disk && reason != "changed blocks only") throw new RefutedException($"the incremental backup read the disk in another way: {reason}");
        }
    }

    private async Task<JsonElement> BackUpAsync(params string[] options)
    {
        var point = await Site.BackUpAsync(guest.Name, options);
        _point = point.GetProperty("point_id").GetString()!;
        Console.WriteLine($"  as the product tells it: {point.GetProperty("consistency_detail").GetString()}");
        return point;
    }

    public async Task<IReadOnlyDictionary<string, string>> RestoreAsync(string target)
    {
        var name = $"restored-{_restores++}";
        var result = (await Site.RunAsync("restore", "run", _point, "--folder", target, "--name", name, "--no-start")).Json;
        await guest.Libvirt.VirshAsync("undefine", name);
        return result.GetProperty("result").GetProperty("restore").GetProperty("details").EnumerateArray()
            .Select(detail => (Name: detail.GetProperty("name").GetString()!, Value: detail.GetProperty("value").GetString()!))
            .Where(detail => detail.Name.StartsWith("disk ", StringComparison.Ordinal))
            .ToDictionary(detail => detail.Name["disk ".Length..], detail => detail.Value, StringComparer.Ordinal);
    }

    public long MeasureStored() => Folders.Measure(Site.Repository);

    public async Task EndAsync()
    {
        await DisposeAsync();
        Directory.Delete(Path.Combine(folder, "repository"), recursive: true);
        await new Virtnbdbackup(guest.Libvirt).ForgetAsync(guest.Name, CheckpointPrefix);
    }

    public async ValueTask DisposeAsync()
    {
        if (_installation is not null) await _installation.DisposeAsync();
        _installation = null;
    }
}
