using VirtBackup.Core;
using VirtBackup.Hypervisors.Qemu;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>A frozen view of a running machine: a backup job of libvirt in pull mode, and a checkpoint of the point to be.</summary>
internal sealed class LibvirtCapture(
    LibvirtContext context, LibvirtConnection connection, Id16 machine, Id16 point, MachineConfiguration configuration, DomainQuiesce quiesce,
    IReadOnlyList<ExportedDisk> disks, IReadOnlyList<DiskSummary> skipped, ScratchFolder folder, ScratchWatch watch) : ICapture
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

    public CaptureConsistency Consistency => quiesce.Consistency;

    public string ConsistencyDetail => quiesce.Detail;

    public TimeSpan? Frozen => quiesce.Frozen;

    public IReadOnlyList<ICapturedDisk> Disks => disks;

    public IReadOnlyList<MachineContent> Contents { get; init; } = [];

    public IReadOnlyList<DiskSummary> SkippedDisks => skipped;

    public ValueTask CommitAsync(CancellationToken cancellationToken) => EndAsync(Outcome.Committed, cancellationToken);

    public ValueTask AbandonAsync(CancellationToken cancellationToken) => EndAsync(Outcome.Abandoned, cancellationToken);

    public ValueTask DetachAsync(CancellationToken cancellationToken) => EndAsync(Outcome.Unknown, cancellationToken);

    private async ValueTask EndAsync(Outcome outcome, CancellationToken cancellationToken)
    {
        // One outcome, however often it is tried; only to leave the decision open is always right.
        Check.That(wanted is null || wanted == outcome || outcome == Outcome.Unknown);
        wanted = outcome;
        await turn.WaitAsync(cancellationToken);
        try
        {
            if (ended)
            {
                return;
            }
            await watch.DisposeAsync();
            foreach (var disk in disks)
            {
                await disk.DisposeAsync();
            }
            await context.JobsOf(connection).EndOursAsync(machine, cancellationToken);
            // A guest that does not answer is still being asked to thaw: its mark stays for whoever comes after us.
            if (!folder.IsFrozen)
            {
                folder.TryDelete();
            }
            if (outcome != Outcome.Unknown)
            {
                await context.SettleAsync(connection, machine, tracked => tracked == point == (outcome == Outcome.Committed), cancellationToken);
            }
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
            await EndAsync(wanted ?? Outcome.Abandoned, CancellationToken.None);
        }
        catch (FaultException)
        {
            // libvirt does not answer, or the machine is gone.
        }
        foreach (var disk in disks)
        {
            await disk.DisposeAsync();
        }
        await watch.DisposeAsync();
        turn.Dispose();
    }
}
