namespace VirtBackup.Hypervisors.Images;

/// <summary>Images held open read-only. There is no tracking to settle: every way of ending it only closes them.</summary>
internal sealed class ImageCapture(
    MachineConfiguration configuration, IReadOnlyList<ImageCapturedDisk> disks, IReadOnlyList<DiskSummary> skipped, string folder) : ICapture
{
    private bool _ended;

    public MachineConfiguration Configuration => configuration;

    public CaptureConsistency Consistency => CaptureConsistency.Crash;

    public string ConsistencyDetail => "the machine is powered off; its images were locked while they were read";

    public IReadOnlyList<ICapturedDisk> Disks => disks;

    public IReadOnlyList<MachineContent> Contents { get; init; } = [];

    public IReadOnlyList<DiskSummary> SkippedDisks => skipped;

    public ValueTask CommitAsync(CancellationToken cancellationToken) => EndAsync();

    public ValueTask AbandonAsync(CancellationToken cancellationToken) => EndAsync();

    public ValueTask DetachAsync(CancellationToken cancellationToken) => EndAsync();

    public ValueTask DisposeAsync() => EndAsync();

    private async ValueTask EndAsync()
    {
        if (_ended)
        {
            return;
        }
        _ended = true;
        foreach (var disk in disks)
        {
            await disk.DisposeAsync();
        }
        Directory.Delete(folder, recursive: true);
    }
}
