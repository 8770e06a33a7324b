using VirtBackup.Core;

namespace VirtBackup.Hypervisors;

/// <summary>What to capture.</summary>
/// <param name="Point">The recovery point to be; change tracking started by this capture carries its name.</param>
/// <param name="Base">The point to read changes since, as <see cref="IHypervisor.SettleAsync"/> returned it; null reads in full.</param>
/// <param name="ExcludedDisks">Names of disks to leave out.</param>
public sealed record CaptureRequest(Id16 Machine, Id16 Point, Id16? Base, IReadOnlySet<string> ExcludedDisks)
{
    /// <summary>Ask the guest agent to freeze file systems for the cut where there is one.</summary>
    public bool Quiesce { get; init; } = true;

    /// <summary>Longest wait for the guest agent's freeze before going on crash-consistently.</summary>
    public TimeSpan QuiesceTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>
    /// What changed since <see cref="Base"/>, told by the caller for machines that cannot tell it themselves: by disk name,
    /// ascending. Drivers that track changes refuse it.
    /// </summary>
    public IReadOnlyDictionary<string, IReadOnlyList<ByteRange>> ChangedExtents { get; init; } = new Dictionary<string, IReadOnlyList<ByteRange>>();
}

/// <summary>A prediction. Bytes; <paramref name="FleeceBytesMax"/> is what the temporary copy-on-write area could need at worst.</summary>
public sealed record CapturePlan(IReadOnlyList<DiskPlan> Disks, long FleeceBytesMax, long FleeceBytesFree);

/// <param name="ReadBytes">Bytes that a run now would read.</param>
/// <param name="Reason">Why the read is full, or "changed blocks only".</param>
public sealed record DiskPlan(DiskSummary Disk, bool ChangedOnly, long ReadBytes, string Reason);

/// <summary>
/// A frozen view of a machine. Exactly one of <see cref="CommitAsync"/>, <see cref="AbandonAsync"/> and <see cref="DetachAsync"/> ends it;
/// disposing without either abandons. Members of different disks may be used concurrently.
/// </summary>
public interface ICapture : IAsyncDisposable
{
    MachineConfiguration Configuration { get; }

    CaptureConsistency Consistency { get; }

    /// <summary>What happened around the cut, for people: frozen for how long, or why not.</summary>
    string ConsistencyDetail { get; }

    /// <summary>Disks in the cut.</summary>
    IReadOnlyList<ICapturedDisk> Disks { get; }

    /// <summary>Disks left out, with the reason.</summary>
    IReadOnlyList<DiskSummary> SkippedDisks { get; }

    /// <summary>
    /// The recovery point is durable: removes the view, keeps tracking since this point, drops the base's.
    /// Idempotent. A failure here loses nothing: <see cref="IHypervisor.SettleAsync"/> finishes it later.
    /// </summary>
    ValueTask CommitAsync(CancellationToken cancellationToken);

    /// <summary>
    /// There is no recovery point: removes the view and folds tracking back into the base, so that the next capture
    /// misses nothing. Idempotent.
    /// </summary>
    ValueTask AbandonAsync(CancellationToken cancellationToken);

    /// <summary>
    /// It is not known whether the recovery point exists: removes the view and leaves the tracking of both points as it
    /// is, for <see cref="IHypervisor.SettleAsync"/> to decide when the truth is known. Idempotent.
    /// </summary>
    ValueTask DetachAsync(CancellationToken cancellationToken);
}

/// <summary>One disk of a frozen view.</summary>
public interface ICapturedDisk
{
    DiskSummary Disk { get; }

    /// <summary>True: <see cref="ListExtentsAsync"/> yields what changed since the base; all else equals the base.
    /// False: it yields what is allocated; all else is zero.</summary>
    bool ChangedOnly { get; }

    /// <summary>Why the read is full, or "changed blocks only".</summary>
    string Reason { get; }

    /// <summary>Opaque text stored with the point: what the driver will track changes by.</summary>
    string BaseToken { get; }

    /// <summary>Extents to read: ascending, not overlapping, inside the disk, byte granularity at least 512 except at the end.</summary>
    IAsyncEnumerable<ByteRange> ListExtentsAsync(CancellationToken cancellationToken);

    /// <summary>
    /// Fills <paramref name="destination"/> from <paramref name="offset"/>. Many reads may be in flight.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.SnapshotLost"/>: the view broke (fleece full, timeout); the guest is unharmed.</exception>
    ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken);
}
