using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>A frozen view of a running QEMU machine. The monitor is free while disks are read.</summary>
internal sealed class QemuCapture(
    QemuDriverContext context, QemuMachine machine, Id16 point, MachineConfiguration configuration, CaptureConsistency consistency, string detail,
    IReadOnlyList<QemuCapturedDisk> disks, IReadOnlyList<DiskSummary> skipped) : ICapture
{
    private readonly SemaphoreSlim turn = new(1);
    private bool ended;

    public MachineConfiguration Configuration => configuration;

    public CaptureConsistency Consistency => consistency;

    public string ConsistencyDetail => detail;

    public IReadOnlyList<ICapturedDisk> Disks => disks;

    public IReadOnlyList<DiskSummary> SkippedDisks => skipped;

    public ValueTask CommitAsync(CancellationToken cancellationToken) => EndAsync(qmp => SettleAsync(qmp, tracked => tracked == point, cancellationToken), cancellationToken);

    public ValueTask AbandonAsync(CancellationToken cancellationToken) => EndAsync(qmp => SettleAsync(qmp, tracked => tracked != point, cancellationToken), cancellationToken);

    public ValueTask DetachAsync(CancellationToken cancellationToken) =>
        EndAsync(qmp => CaptureRemoval.RemoveAsync(qmp, context.Options.FleeceFolder, machine.Uuid, cancellationToken), cancellationToken);

    private async Task SettleAsync(QmpClient qmp, Func<Id16, bool> committed, CancellationToken cancellationToken) =>
        await context.SettleAsync(qmp, machine, committed, cancellationToken);

    private async ValueTask EndAsync(Func<QmpClient, Task> settle, CancellationToken cancellationToken)
    {
        await turn.WaitAsync(cancellationToken);
        try
        {
            if (ended)
            {
                return;
            }
            foreach (var disk in disks)
            {
                await disk.DisposeAsync();
            }
            await using var qmp = await context.OpenAsync(machine, cancellationToken);
            await settle(qmp);
            ended = true;
        }
        finally
        {
            turn.Release();
        }
    }

    /// <summary>Abandons what was not ended. What cannot be cleaned up now is left to the next <see cref="IHypervisor.SettleAsync"/>.</summary>
    public async ValueTask DisposeAsync()
    {
        try
        {
            await AbandonAsync(CancellationToken.None);
        }
        catch (FaultException)
        {
            // QEMU is gone or does not answer.
        }
        turn.Dispose();
    }
}
