using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>Asks QEMU how the guest's writes fare. The monitor is opened for each reading, so that it stays free for others.</summary>
internal sealed class QemuWriteMeter(QemuDriverContext context, QemuMachine machine, WriteAccount account) : IGuestWriteMeter
{
    public static async Task<QemuWriteMeter> OpenAsync(QemuDriverContext context, QemuMachine machine, CancellationToken cancellationToken)
    {
        await using var qmp = await context.OpenAsync(machine, cancellationToken);
        var devices = new HashSet<string>(StringComparer.Ordinal);
        foreach (var disk in await BlockInventory.ReadAsync(qmp, machine.Uuid, new HashSet<string>(), cancellationToken))
        {
            if (disk is { Captured: true, DevicePath: { } path })
            {
                devices.Add(path);
            }
        }
        return new QemuWriteMeter(context, machine, await WriteAccount.OpenAsync(MonitorOf(qmp), devices.Contains, cancellationToken));
    }

    public string? Shortcoming => account.HasHistogram ? null : GuestWrites.TakenHistograms;

    public async ValueTask<GuestWrites> ReadAsync(CancellationToken cancellationToken)
    {
        await using var qmp = await context.OpenAsync(machine, cancellationToken);
        return await account.ReadAsync(MonitorOf(qmp), cancellationToken);
    }

    private static MonitorCommand MonitorOf(QmpClient qmp) => (command, arguments, token) => qmp.ExecuteAsync(command, arguments, token);

    public async ValueTask DisposeAsync()
    {
        try
        {
            await using var qmp = await context.OpenAsync(machine, CancellationToken.None);
            await account.CloseAsync(MonitorOf(qmp));
        }
        catch (FaultException)
        {
            // The machine has ended, or its monitor is in use.
        }
    }
}
