using System.Text.Json;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Proofs.GuestImpact;

/// <summary>The same guest under libvirt, backed up by virtnbdbackup. Suspended while it is not measured. One caller at a time.</summary>
internal sealed class Peer : IAsyncDisposable
{
    private const string Machine = "peer";
    private readonly LabDirectory _folder = new();
    private readonly LabLibvirt _libvirt;
    private readonly LabDomain _domain;
    private int _runs;

    private Peer(LabLibvirt libvirt, LabDomain domain)
    {
        (_libvirt, _domain) = (libvirt, domain);
        Load = new PacedLoad(domain.ExecAsync, QueryAsync);
    }

    public PacedLoad Load { get; }

    /// <summary>Boots it, starts its load and suspends it.</summary>
    /// <param name="bulkBytes">Random bytes on a disk of their own, besides what the guest has.</param>
    public static async Task<Peer> StartAsync(long bulkBytes)
    {
        var libvirt = await LabLibvirt.StartAsync();
        try
        {
            var bulk = libvirt.File("bulk.qcow2");
            await LabDisk.CreateRandomAsync(bulk, LabDiskFormat.Qcow2, bulkBytes, 7);
            await libvirt.GiveAsync(bulk);
            var domain = await libvirt.DefineAsync(Machine, extraDisks: LabLibvirt.DiskXml("vdc", bulk, LabDiskFormat.Qcow2));
            await domain.BootAsync();
            var peer = new Peer(libvirt, domain);
            await peer.Load.StartAsync();
            await peer.SuspendAsync();
            return peer;
        }
        catch
        {
            await libvirt.DisposeAsync();
            throw;
        }
    }

    public Task SuspendAsync() => _libvirt.VirshAsync("suspend", Machine);

    public Task ResumeAsync() => _libvirt.VirshAsync("resume", Machine);

    /// <summary>A full backup that leaves no checkpoint behind.</summary>
    public async Task BackUpAsync()
    {
        var output = Directory.CreateDirectory(_folder.File($"run{_runs++}")).FullName;
        await new Virtnbdbackup(_libvirt).BackUpAsync(Machine, "copy", output, TimeSpan.FromMinutes(5));
        Directory.Delete(output, recursive: true);
    }

    private async Task<JsonElement> QueryAsync()
    {
        using var answer = JsonDocument.Parse(await _libvirt.VirshAsync("qemu-monitor-command", Machine, """{"execute":"query-blockstats"}"""));
        return answer.RootElement.GetProperty("return").Clone();
    }

    public async ValueTask DisposeAsync()
    {
        await _libvirt.DisposeAsync();
        _folder.Dispose();
    }
}
