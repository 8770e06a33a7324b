using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Qemu.Moving;

/// <summary>Opens a machine's monitor for one look at a time: a move takes long, and QEMU serves one client.</summary>
internal sealed class PatientMonitor(QemuDriverContext context, QemuMachine machine)
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(200);

    /// <summary>Waits for its turn when another client holds the monitor.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.HypervisorUnavailable"/>: nobody listens there any more, or it stays in other hands.</exception>
    public async Task<QmpClient> OpenAsync(CancellationToken cancellationToken)
    {
        var begun = context.Time.GetTimestamp();
        while (true)
        {
            try
            {
                return await context.OpenAsync(machine, cancellationToken);
            }
            catch (FaultException fault) when (fault.Reason == FaultReason.HypervisorUnavailable && context.Time.GetElapsedTime(begun) < Patience)
            {
                if (!await JsonLineSocket.IsListeningAsync(machine.QmpSocket, cancellationToken))
                {
                    throw;
                }
                await Task.Delay(Interval, context.Time, cancellationToken);
            }
        }
    }
}
