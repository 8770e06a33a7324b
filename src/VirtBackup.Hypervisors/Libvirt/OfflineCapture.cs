using VirtBackup.Hypervisors.Images;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>A machine that is off: its images held open read-only, and a checkpoint of the point to be.</summary>
internal sealed class OfflineCapture : ICapture
{
    private readonly ImageCapture images;
    private readonly CaptureEnd end;
    private bool disposed;

    public OfflineCapture(LibvirtContext context, LibvirtConnection connection, CaptureRequest request, ImageCapture images)
    {
        this.images = images;
        end = new CaptureEnd(async (outcome, cancellationToken) =>
        {
            // They are locked until then, and could not be given up their tracking.
            await images.DisposeAsync();
            if (outcome != CaptureOutcome.Unknown)
            {
                await context.SettleAsync(connection, request.Machine, tracked => tracked == request.Point == (outcome == CaptureOutcome.Committed), cancellationToken);
            }
        });
    }

    public MachineConfiguration Configuration => images.Configuration;

    public CaptureConsistency Consistency => images.Consistency;

    public string ConsistencyDetail => images.ConsistencyDetail;

    public IReadOnlyList<ICapturedDisk> Disks => images.Disks;

    public IReadOnlyList<MachineContent> Contents => images.Contents;

    public IReadOnlyList<DiskSummary> SkippedDisks => images.SkippedDisks;

    public ValueTask CommitAsync(CancellationToken cancellationToken) => end.EndAsync(CaptureOutcome.Committed, cancellationToken);

    public ValueTask AbandonAsync(CancellationToken cancellationToken) => end.EndAsync(CaptureOutcome.Abandoned, cancellationToken);

    public ValueTask DetachAsync(CancellationToken cancellationToken) => end.EndAsync(CaptureOutcome.Unknown, cancellationToken);

    public async ValueTask DisposeAsync()
    {
        if (disposed)
        {
            return;
        }
        disposed = true;
        _ = await end.TryFinishAsync();
        await images.DisposeAsync();
        end.Dispose();
    }
}
