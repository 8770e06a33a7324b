using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>A frozen view of a running QEMU machine. The monitor is free while disks are read.</summary>
internal sealed class QemuCapture(
    QemuDriverContext context, QemuMachine machine, Id16 point, MachineConfiguration configuration, CaptureConsistency consistency, string detail,
    IReadOnlyList<QemuCapturedDisk> disks, IReadOnlyList<DiskSummary> skipped) : ICapture
{
    private readonly SemaphoreSlim turn = new(1);
    private Outcome? wanted;
    private bool ended;

    private enum Outcome
    {
        Committed,
        Abandoned,
        Unknown,
    }

    public MachineConfiguration Configuration => configuration;

    public CaptureConsistency Consistency => consistency;

    public string ConsistencyDetail => detail;

    public IReadOnlyList<ICapturedDisk> Disks => disks;

    public IReadOnlyList<DiskSummary> SkippedDisks => skipped;

    public async ValueTask CommitAsync(CancellationToken cancellationToken)
    {
        Check.That(wanted is null or Outcome.Committed);
        wanted = Outcome.Committed;
        await EndAsync(qmp => SettleAsync(qmp, tracked => tracked == point, cancellationToken), cancellationToken);
    }

    public async ValueTask AbandonAsync(CancellationToken cancellationToken)
    {
        // The point is durable as soon as a commit was asked for: folding its tracking back would only cost the next run.
        Check.That(wanted is null or Outcome.Abandoned);
        wanted = Outcome.Abandoned;
        await EndAsync(qmp => SettleAsync(qmp, tracked => tracked != point, cancellationToken), cancellationToken);
    }

    public async ValueTask DetachAsync(CancellationToken cancellationToken)
    {
        Check.That(wanted is null or Outcome.Unknown);
        wanted = Outcome.Unknown;
        await EndAsync(qmp => CaptureRemoval.RemoveAsync(qmp, context.Options.FleeceFolder, machine.Uuid, cancellationToken), cancellationToken);
    }

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

    /// <summary>Abandons what was not ended; tries a failed end once more. What cannot be cleaned up now is left to the next <see cref="IHypervisor.SettleAsync"/>.</summary>
    public async ValueTask DisposeAsync()
    {
        try
        {
            await (wanted switch
            {
                Outcome.Committed => CommitAsync(CancellationToken.None),
                Outcome.Unknown => DetachAsync(CancellationToken.None),
                _ => AbandonAsync(CancellationToken.None),
            });
        }
        catch (Exception failure) when (failure is FaultException or IOException or UnauthorizedAccessException)
        {
            // QEMU is gone or does not answer.
        }
        foreach (var disk in disks)
        {
            await disk.DisposeAsync();
        }
        turn.Dispose();
    }
}
