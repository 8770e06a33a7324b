using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>A frozen view of a running QEMU machine. The monitor is free while disks are read.</summary>
internal sealed class QemuCapture(
    QemuDriverContext context, QemuMachine machine, Id16 point, MachineConfiguration configuration, CutOutcome cut,
    IReadOnlyList<ExportedDisk> disks, IReadOnlyList<DiskSummary> skipped) : ICapture
{
    private readonly SemaphoreSlim turn = new(1);
    private Outcome? wanted;
    private bool ended;
    private bool disposed;

    private enum Outcome
    {
        Committed,
        Abandoned,
        Unknown,
    }

    public MachineConfiguration Configuration => configuration;

    public CaptureConsistency Consistency => cut.Consistency;

    public string ConsistencyDetail => cut.Detail;

    public TimeSpan? Frozen => cut.Frozen;

    public IReadOnlyList<ICapturedDisk> Disks => disks;

    public IReadOnlyList<DiskSummary> SkippedDisks => skipped;

    public IReadOnlyList<MachineContent> Contents { get; init; } = [];

    public ValueTask CommitAsync(CancellationToken cancellationToken) => EndAsync(Outcome.Committed, cancellationToken);

    public ValueTask AbandonAsync(CancellationToken cancellationToken) => EndAsync(Outcome.Abandoned, cancellationToken);

    public ValueTask DetachAsync(CancellationToken cancellationToken) => EndAsync(Outcome.Unknown, cancellationToken);

    private async Task ApplyAsync(QmpClient qmp, Outcome outcome, CancellationToken cancellationToken)
    {
        if (outcome == Outcome.Unknown)
        {
            await CaptureRemoval.RemoveAsync(qmp, context.Options.FleeceFolder, machine.Uuid, cancellationToken);
            return;
        }
        await context.SettleAsync(qmp, machine, tracked => tracked == point == (outcome == Outcome.Committed), cancellationToken);
    }

    private async ValueTask EndAsync(Outcome outcome, CancellationToken cancellationToken)
    {
        // One outcome, however often it is tried: abandoning a point that became durable would cost the next run its
        // tracking. Only to leave the decision open is always right.
        Check.That(wanted is null || wanted == outcome || outcome == Outcome.Unknown);
        wanted = outcome;
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
            await ApplyAsync(qmp, outcome, cancellationToken);
            ended = true;
        }
        finally
        {
            turn.Release();
        }
    }

    private async Task DeleteOrphansAsync()
    {
        try
        {
            await CaptureRemoval.DeleteOrphansAsync(context.Options.FleeceFolder, machine.Uuid, CancellationToken.None);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            // Left to the next run.
        }
    }

    /// <summary>Abandons what was not ended; tries a failed end once more. What cannot be cleaned up now is left to the next <see cref="IHypervisor.SettleAsync"/>.</summary>
    public async ValueTask DisposeAsync()
    {
        if (disposed)
        {
            return;
        }
        disposed = true;
        try
        {
            await EndAsync(wanted ?? Outcome.Abandoned, CancellationToken.None);
        }
        catch (Exception failure) when (failure is FaultException or IOException or UnauthorizedAccessException)
        {
            // QEMU is gone or does not answer. If it is gone, the fleeces are of no use to anybody.
            await DeleteOrphansAsync();
        }
        foreach (var disk in disks)
        {
            await disk.DisposeAsync();
        }
        turn.Dispose();
    }
}
