using VirtBackup.Core;
using VirtBackup.Hypervisors;

namespace VirtBackup.Testing.Platforms;

/// <summary>A view of a machine on a server. What its end does is the platform's.</summary>
internal abstract class ServerCapture : ICapture
{
    private readonly CaptureEnd end;

    protected ServerCapture(ServerHypervisor driver, PlatformMachine machine, IReadOnlyList<ICapturedDisk> disks, IReadOnlyList<DiskSummary> all)
    {
        Disks = disks;
        SkippedDisks = [.. all.Where(disk => disk.SkipReason is not null)];
        Configuration = driver.Describe(machine, disks.Select(disk => disk.Disk));
        end = new CaptureEnd((outcome, cancellationToken) => EndAsync(outcome, cancellationToken).AsTask());
    }

    public MachineConfiguration Configuration { get; }

    public CaptureConsistency Consistency => CaptureConsistency.Crash;

    public string ConsistencyDetail => "cut without quiescing";

    public IReadOnlyList<ICapturedDisk> Disks { get; }

    public IReadOnlyList<DiskSummary> SkippedDisks { get; }

    public ValueTask CommitAsync(CancellationToken cancellationToken) => end.EndAsync(CaptureOutcome.Committed, cancellationToken);

    public ValueTask AbandonAsync(CancellationToken cancellationToken) => end.EndAsync(CaptureOutcome.Abandoned, cancellationToken);

    public ValueTask DetachAsync(CancellationToken cancellationToken) => end.EndAsync(CaptureOutcome.Unknown, cancellationToken);

    public async ValueTask DisposeAsync() => _ = await end.TryFinishAsync();

    protected abstract ValueTask EndAsync(CaptureOutcome outcome, CancellationToken cancellationToken);
}

/// <summary>One disk of a view.</summary>
internal abstract class ServerCapturedDisk(DiskSummary disk, string reason, string baseToken) : ICapturedDisk
{
    protected const string NoBase = "read in full: no earlier recovery point is there to build on";
    protected const string NotInBase = "read in full: it was not part of the last recovery point";
    protected const string ChangesOnly = "changed blocks only";

    public DiskSummary Disk => disk;

    public string Reason => reason;

    public string BaseToken => baseToken;

    public bool ChangedOnly => reason == ChangesOnly;

    /// <summary>A stream has no way back from what an audit has read.</summary>
    public ReadReach Reach => SequentialOnly ? ReadReach.ListedExtents : ReadReach.Everything;

    public virtual bool SequentialOnly => false;

    public abstract IAsyncEnumerable<ByteRange> ListExtentsAsync(CancellationToken cancellationToken);

    public abstract ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken);

    /// <summary>A call that reads from the view: that the view is gone is told as the port tells it.</summary>
    protected async ValueTask<T> TranslateAsync<T>(Func<ValueTask<T>> call)
    {
        try
        {
            return await call();
        }
        catch (FaultException fault) when (fault.Reason is FaultReason.NotFound or FaultReason.InvalidArgument)
        {
            throw new FaultException(FaultReason.SnapshotLost, $"The view that disk {disk.Name} is read from is gone: somebody removed it. The guest is unharmed; run again. ({fault.Message})", fault);
        }
    }

    protected static bool Did(Action work)
    {
        work();
        return true;
    }
}
