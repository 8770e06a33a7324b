using System.Net;
using System.Net.Sockets;
using VirtBackup.Core;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Proofs.PlanCalibration.Incompatibilities;

/// <summary>What of this host does not suit: little file systems in memory, a process that has the UUID, a port that is taken. Mounting takes root.</summary>
internal sealed class Host : IAsyncDisposable
{
    private readonly LabDirectory _folder = new();
    private readonly List<string> _mounted = [];
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private BackgroundProc? _machine;

    private Host()
    {
    }

    public string Folder => _folder.Path;

    /// <summary>8 MiB.</summary>
    public string Small => _folder.File("small");

    public string ReadOnly => _folder.File("read-only");

    /// <summary>Of the QEMU process that runs here.</summary>
    public Guid Uuid { get; } = Guid.NewGuid();

    public string Name => $"clash-{Uuid:N}"[..16];

    public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

    public static async Task<Host> CreateAsync()
    {
        var host = new Host();
        try
        {
            await host.MountAsync(host.Small, "size=8m");
            await host.MountAsync(host.ReadOnly, "ro");
            host._listener.Start();
            host._machine = BackgroundProc.Start("qemu-system-x86_64", ["-machine", "none", "-nodefaults", "-display", "none", "-S", "-name", host.Name, "-uuid", host.Uuid.ToString()]);
            return host;
        }
        catch
        {
            await host.DisposeAsync();
            throw;
        }
    }

    public Id16 MachineId => Id16.Parse(Uuid.ToString());

    public async ValueTask DisposeAsync()
    {
        if (_machine is not null) await _machine.DisposeAsync();
        _listener.Dispose();
        foreach (var folder in _mounted) await Proc.CheckAsync("umount", ["--lazy", folder]);
        _folder.Dispose();
    }

    private async Task MountAsync(string folder, string options)
    {
        Directory.CreateDirectory(folder);
        await Proc.CheckAsync("mount", ["-t", "tmpfs", "-o", options, "virtbackup-proof", folder]);
        _mounted.Add(folder);
    }
}
