using System.Text.Json;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Replication.SiteLoss;

/// <summary>
/// A real machine whose guest has not run yet: it boots when it is recovered. A small disk of its own is filled with the number of its
/// generation through QEMU, so that change tracking sees it.
/// </summary>
internal sealed class MarkedMachine : IAsyncDisposable
{
    private const string Mark = "mark";
    private const int MarkBytes = 1 << 20;

    private MarkedMachine(LabVm vm) => Vm = vm;

    public LabVm Vm { get; }

    public static async Task<MarkedMachine> StartAsync(string name, CancellationToken cancellationToken)
    {
        var guest = await LabGuest.GetAsync(cancellationToken);
        return new MarkedMachine(await LabVm.StartAsync(
            new LabVmOptions
            {
                Name = name,
                MemoryMiB = 128,
                Disks = [.. LabVmOptions.GuestDisks(guest), new LabDiskOptions { NodeName = Mark, Size = MarkBytes }],
                ExtraArguments = ["-S"],
            },
            cancellationToken));
    }

    public async Task WriteAsync(int generation, CancellationToken cancellationToken)
    {
        var line = JsonSerializer.Serialize($"qemu-io -d /machine/peripheral/disk-{Mark}/virtio-backend \"write -P {generation} 0 {MarkBytes}\"");
        var said = (await Vm.QmpAsync("human-monitor-command", $"{{\"command-line\":{line}}}", cancellationToken)).GetString() ?? "";
        if (said.Contains("rror", StringComparison.Ordinal)) throw new LabException($"The generation was not written: {said}");
    }

    /// <param name="disks">Paths of its restored raw disks, by name.</param>
    /// <returns>The generation on its disk.</returns>
    public static int Read(IReadOnlyDictionary<string, string> disks)
    {
        using var file = File.OpenRead(disks[disks.Keys.Single(static name => name.Contains(Mark, StringComparison.Ordinal))]);
        var bytes = new byte[MarkBytes];
        file.ReadExactly(bytes);
        return bytes.AsSpan().ContainsAnyExcept(bytes[0]) ? throw new RefutedException("a recovered disk holds parts of two generations") : bytes[0];
    }

    public ValueTask DisposeAsync() => Vm.DisposeAsync();
}
