using VirtBackup.Testing.Lab;

namespace VirtBackup.Proofs.Comparison;

/// <summary>A guest of a private libvirtd whose third disk is what matters. It changes that disk itself. One caller at a time.</summary>
internal sealed class ComparedGuest : IAsyncDisposable
{
    public const string Disk = "vdc";
    private const string Forward = "vdd", Back = "vde";
    private readonly LabDomain _domain;

    private ComparedGuest(LabLibvirt libvirt, LabDomain domain, AgentTranscript transcript)
    {
        (Libvirt, _domain, Transcript) = (libvirt, domain, transcript);
        DiskPath = libvirt.File("bulk.qcow2");
    }

    public string Name => _domain.Name;

    public LabLibvirt Libvirt { get; }

    public AgentTranscript Transcript { get; }

    public string DiskPath { get; }

    /// <summary>Boots it with its own two small disks.</summary>
    public static async Task<ComparedGuest> BootAsync()
    {
        var libvirt = await LabLibvirt.StartAsync();
        AgentTranscript? transcript = null;
        try
        {
            var log = libvirt.File("agent.log");
            transcript = await AgentTranscript.OpenAsync(log);
            await libvirt.GiveAsync(log);
            var ports = "<controller type='pci' index='0' model='pcie-root'/>" + string.Concat(Enumerable.Repeat("<controller type='pci' model='pcie-root-port'/>", 12));
            var domain = await libvirt.DefineAsync("compared", extraDevices: ports, agentLog: log);
            await domain.BootAsync();
            return new ComparedGuest(libvirt, domain, transcript);
        }
        catch
        {
            if (transcript is not null) await transcript.DisposeAsync();
            await libvirt.DisposeAsync();
            throw;
        }
    }

    /// <summary>Plugs the disk in, and beside it what it becomes.</summary>
    public async Task AttachAsync(DiskStates states)
    {
        await LabDisk.ConvertAsync(states.Before, LabDiskFormat.Raw, DiskPath, LabDiskFormat.Qcow2);
        await PlugInAsync(Disk, DiskPath, LabDiskFormat.Qcow2, "");
        await PlugInAsync(Forward, states.Forward, LabDiskFormat.Raw, "<readonly/>");
        await PlugInAsync(Back, states.Back, LabDiskFormat.Raw, "<readonly/>");
    }

    private async Task PlugInAsync(string target, string path, LabDiskFormat format, string extra)
    {
        await Libvirt.GiveAsync(path);
        var xml = Libvirt.File($"{target}.xml");
        await File.WriteAllTextAsync(xml, LabLibvirt.DiskXml(target, path, format, extra: extra));
        await Libvirt.VirshAsync("attach-device", Name, xml, "--live", "--config");
        (await _domain.ExecAsync($"i=0; while [ ! -b /dev/{target} ] && [ $i -lt 200 ]; do sleep 0.05; i=$((i + 1)); done; [ -b /dev/{target} ]")).EnsureSuccess();
    }

    /// <summary>The guest writes what has changed since.</summary>
    public Task ChangeAsync() => ApplyAsync(Forward);

    /// <summary>The guest writes what was there before.</summary>
    public Task RevertAsync() => ApplyAsync(Back);

    private async Task ApplyAsync(string delta) => (await _domain.ExecAsync(
        $"set -e; dd if=/dev/{delta} bs={DiskStates.TableBytes} count=1 2>/dev/null | tr -d '\\000' > /run/places; "
        + $"while read from to count; do dd if=/dev/{delta} of=/dev/{Disk} bs={DiskStates.BlockBytes} skip=$from seek=$to count=$count conv=notrunc 2>/dev/null; done < /run/places; sync")).EnsureSuccess();

    public async ValueTask DisposeAsync()
    {
        await Libvirt.DisposeAsync();
        await Transcript.DisposeAsync();
    }
}
