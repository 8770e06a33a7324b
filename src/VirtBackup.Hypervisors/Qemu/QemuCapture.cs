using VirtBackup.Core;
using VirtBackup.Hypervisors.State;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>A frozen view of a running QEMU machine. The monitor is free while disks are read.</summary>
internal sealed class QemuCapture : ICapture
{
    private readonly QemuDriverContext context;
    private readonly QemuMachine machine;
    private readonly Id16 point;
    private readonly CutOutcome cut;
    private readonly IReadOnlyList<ExportedDisk> disks;
    private readonly CaptureEnd end;
    private bool disposed;

    public QemuCapture(
        QemuDriverContext context, QemuMachine machine, Id16 point, MachineConfiguration configuration, CutOutcome cut,
        IReadOnlyList<ExportedDisk> disks, IReadOnlyList<DiskSummary> skipped)
    {
        (this.context, this.machine, this.point, this.cut, this.disks) = (context, machine, point, cut, disks);
        (Configuration, SkippedDisks) = (configuration, skipped);
        end = new CaptureEnd(ApplyAsync);
    }

    public MachineConfiguration Configuration { get; }

    public CaptureConsistency Consistency => cut.Consistency;

    public string ConsistencyDetail => cut.Detail;

    public TimeSpan? Frozen => cut.Frozen;

    public IReadOnlyList<ICapturedDisk> Disks => disks;

    public IReadOnlyList<DiskSummary> SkippedDisks { get; }

    public IReadOnlyList<MachineContent> Contents { get; init; } = [];

    public CapturedState? State => Spool is null ? null : new CapturedState(Spool.Memory, Spool.Devices, cut.Paused);

    /// <summary>The running state; null: not captured. Owned.</summary>
    public SpooledState? Spool { get; init; }

    public ValueTask CommitAsync(CancellationToken cancellationToken) => end.EndAsync(CaptureOutcome.Committed, cancellationToken);

    public ValueTask AbandonAsync(CancellationToken cancellationToken) => end.EndAsync(CaptureOutcome.Abandoned, cancellationToken);

    public ValueTask DetachAsync(CancellationToken cancellationToken) => end.EndAsync(CaptureOutcome.Unknown, cancellationToken);

    private async Task ApplyAsync(CaptureOutcome outcome, CancellationToken cancellationToken)
    {
        foreach (var disk in disks)
        {
            await disk.DisposeAsync();
        }
        await using var qmp = await context.OpenAsync(machine, cancellationToken);
        if (outcome == CaptureOutcome.Unknown)
        {
            await context.RemoveAsync(qmp, machine, cancellationToken);
            return;
        }
        await context.SettleAsync(qmp, machine, tracked => tracked == point == (outcome == CaptureOutcome.Committed), cancellationToken);
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
        var isOver = false;
        try
        {
            isOver = await end.TryFinishAsync();
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            // Told below, in the same way.
        }
        if (!isOver)
        {
            // QEMU is gone or does not answer. If it is gone, the fleeces are of no use to anybody.
            await DeleteOrphansAsync();
        }
        foreach (var disk in disks)
        {
            await disk.DisposeAsync();
        }
        Spool?.Dispose();
        end.Dispose();
    }
}
