using System.Text;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Links;

namespace VirtBackup.Testing.Installations;

/// <summary>An image file of a powered-off machine.</summary>
public sealed record InstalledImage(string Path, LabDiskFormat Format, string Name);

/// <summary>An agent with a home and a configuration of its own. Machines must be added before it is started, or restarted.</summary>
public sealed class InstalledAgent : IAsyncDisposable
{
    private readonly StringBuilder _machines = new();
    private readonly StringBuilder _images = new();
    private readonly StringBuilder _more = new();
    private string? _libvirt;

    internal InstalledAgent(string name, string folder, NetworkSite? site)
    {
        Name = name;
        Home = Path.Combine(folder, name);
        FleeceFolder = Path.Combine(folder, $"f-{name}");
        Configuration = Path.Combine(folder, $"{name}.yaml");
        Service = new ServiceProcess(Programs.Agent, ["--config", Configuration], "ready: connected", site);
        Write();
    }

    public string Name { get; }

    public string Home { get; }

    public string FleeceFolder { get; }

    /// <summary>Path of agent.yaml.</summary>
    public string Configuration { get; }

    public ServiceProcess Service { get; }

    /// <summary>How disks are cut, in the words of agent.yaml; null: by default. Set before machines are added.</summary>
    public string? Chunks { get; set; }

    /// <summary>Configures a running machine.</summary>
    /// <param name="guestAgent">Whether its guest is up and has an agent.</param>
    public void Add(LabVm machine, bool guestAgent = true)
    {
        _machines.Append($"  - name: {machine.Name}\n    uuid: {machine.Uuid}\n    qmp: {machine.QmpPath}\n");
        if (guestAgent) _machines.Append($"    guest_agent: {machine.GuestAgentPath}\n");
        Write();
    }

    /// <summary>Configures a powered-off machine.</summary>
    public void Add(string name, Guid uuid, params InstalledImage[] images)
    {
        _images.Append($"  - name: {name}\n    uuid: {uuid}\n    disks:\n");
        foreach (var image in images)
        {
            _images.Append($"      - name: {image.Name}\n        path: {image.Path}\n        format: {LabDisk.NameOf(image.Format)}\n");
        }
        Write();
    }

    /// <summary>Adds settings of agent.yaml that this class does not know.</summary>
    public void Append(string settings)
    {
        _more.Append(settings.TrimEnd('\n')).Append('\n');
        Write();
    }

    /// <summary>Configures the machines of a libvirt.</summary>
    /// <param name="fleeceFolder">For scratch files; QEMU's user must be able to enter it.</param>
    public void Add(LabLibvirt libvirt, string fleeceFolder)
    {
        _libvirt = $"libvirt:\n  uris: ['{libvirt.Uri}']\n  fleece_folder: {fleeceFolder}\n  fleece_free_mib_min: 64\n";
        Write();
    }

    /// <summary>Kills it as soon as it has made a mark of how it holds a guest: <c>frozen</c>, <c>stopped</c>.</summary>
    public async Task KillAtAsync(string mark)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromMinutes(3));
        while (!Directory.EnumerateFiles(FleeceFolder, mark, SearchOption.AllDirectories).Any())
        {
            limit.Token.ThrowIfCancellationRequested();
            // Some milliseconds of a freeze are long enough to be met, and the others here need the processors.
            Thread.Sleep(1);
        }
        System.Diagnostics.Process.GetProcessById(Service.Pid).Kill();
        await Service.KillAsync();
    }

    public ValueTask DisposeAsync() => Service.DisposeAsync();

    private void Write()
    {
        var text = new StringBuilder($"home: {Home}\nfleece_folder: {FleeceFolder}\n");
        if (Chunks is not null) text.Append($"chunks: {Chunks}\n");
        if (_machines.Length > 0) text.Append("machines:\n").Append(_machines);
        text.Append(_libvirt);
        if (_images.Length > 0) text.Append("images:\n").Append(_images);
        File.WriteAllText(Configuration, text.Append(_more).ToString());
    }
}
