using VirtBackup.Core;
using VirtBackup.Hypervisors.Qemu;
using VirtBackup.Hypervisors.State;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>A frozen view of a running machine: a backup job of libvirt in pull mode, and a checkpoint of the point to be.</summary>
internal sealed class LibvirtCapture : ICapture
{
    private readonly LibvirtContext context;
    private readonly LibvirtConnection connection;
    private readonly Id16 machine;
    private readonly Id16 point;
    private readonly IReadOnlyList<ExportedDisk> disks;
    private readonly ScratchFolder folder;
    private readonly ScratchWatch watch;
    private readonly CaptureEnd end;
    private bool disposed;

    public LibvirtCapture(
        LibvirtContext context, LibvirtConnection connection, CaptureRequest request, IReadOnlyList<ExportedDisk> disks, ScratchFolder folder, ScratchWatch watch)
    {
        (this.context, this.connection, machine, point) = (context, connection, request.Machine, request.Point);
        (this.disks, this.folder, this.watch) = (disks, folder, watch);
        end = new CaptureEnd(ApplyAsync);
    }

    public required MachineConfiguration Configuration { get; init; }

    public required CaptureConsistency Consistency { get; init; }

    public required string ConsistencyDetail { get; init; }

    public TimeSpan? Frozen { get; init; }

    public CapturedState? State => Spool is null ? null : new CapturedState(Spool.Memory, Spool.Devices, Paused);

    /// <summary>The running state; null: not captured. Owned.</summary>
    public SpooledState? Spool { get; init; }

    /// <summary>For how long the guest stood still for it.</summary>
    public TimeSpan Paused { get; init; }

    public IReadOnlyList<ICapturedDisk> Disks => disks;

    public IReadOnlyList<MachineContent> Contents { get; init; } = [];

    public required IReadOnlyList<DiskSummary> SkippedDisks { get; init; }

    public ValueTask CommitAsync(CancellationToken cancellationToken) => end.EndAsync(CaptureOutcome.Committed, cancellationToken);

    public ValueTask AbandonAsync(CancellationToken cancellationToken) => end.EndAsync(CaptureOutcome.Abandoned, cancellationToken);

    public ValueTask DetachAsync(CancellationToken cancellationToken) => end.EndAsync(CaptureOutcome.Unknown, cancellationToken);

    private async Task ApplyAsync(CaptureOutcome outcome, CancellationToken cancellationToken)
    {
        await watch.DisposeAsync();
        foreach (var disk in disks)
        {
            await disk.DisposeAsync();
        }
        await context.JobsOf(connection).EndOursAsync(machine, cancellationToken);
        // A guest that does not answer is still being asked to thaw: its marks stay for whoever comes after us.
        if (!folder.Marks.Any)
        {
            folder.TryDelete();
        }
        if (outcome != CaptureOutcome.Unknown)
        {
            await context.SettleAsync(connection, machine, tracked => tracked == point == (outcome == CaptureOutcome.Committed), cancellationToken);
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (disposed)
        {
            return;
        }
        disposed = true;
        _ = await end.TryFinishAsync();
        foreach (var disk in disks)
        {
            await disk.DisposeAsync();
        }
        await watch.DisposeAsync();
        Spool?.Dispose();
        end.Dispose();
    }
}
