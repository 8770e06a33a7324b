using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;

namespace VirtBackup.Hypervisors;

/// <summary>What to capture.</summary>
/// <param name="Point">The recovery point to be; change tracking started by this capture carries its name.</param>
/// <param name="Base">The point to read changes since, as <see cref="IHypervisor.SettleAsync"/> returned it; null reads in full.</param>
/// <param name="ExcludedDisks">Names of disks to leave out.</param>
public sealed record CaptureRequest(Id16 Machine, Id16 Point, Id16? Base, IReadOnlySet<string> ExcludedDisks)
{
    /// <summary>
    /// <see cref="ICapturedDisk.BaseToken"/> by disk id, of <see cref="Base"/> or, when all is to be read, of the newest point that
    /// the caller remembers: a commit ends its tracking in either case. A disk without a token is read in full, and so is one whose
    /// token does not hold any more. Drivers whose tracking carries the point's name need none.
    /// </summary>
    public IReadOnlyDictionary<Id16, string> BaseTokens { get; init; } = new Dictionary<Id16, string>();

    /// <summary>Ask the guest agent to freeze file systems for the cut where there is one.</summary>
    public bool Quiesce { get; init; } = true;

    /// <summary>Longest wait for the guest agent's freeze before going on crash-consistently.</summary>
    public TimeSpan QuiesceTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>A guest that has been frozen for so long is thawed, whether its cut is made or not.</summary>
    public TimeSpan FreezeLimit { get; init; } = TimeSpan.FromSeconds(20);

    /// <summary>What the guest agent runs around the freeze; nothing without <see cref="Quiesce"/>.</summary>
    public GuestHooks Hooks { get; init; } = GuestHooks.None;

    /// <summary>
    /// Capture memory and processors, too. The guest is not frozen then: it goes on from where it was. All disks must be in the cut.
    /// </summary>
    public StateCapture WithState { get; init; }

    /// <summary>Holds the machine at the steps of its cut until others have reached them, too; null: it is cut by itself.</summary>
    public ICutGate? Gate { get; init; }

    /// <summary>Takes lines for the job's log; quick, and safe from any thread.</summary>
    public Action<string> Log { get; init; } = static _ => { };

    /// <summary>
    /// What changed since <see cref="Base"/>, told by the caller for machines that cannot tell it themselves: by disk name,
    /// ascending. Drivers that track changes refuse it.
    /// </summary>
    public IReadOnlyDictionary<string, IReadOnlyList<ByteRange>> ChangedExtents { get; init; } = new Dictionary<string, IReadOnlyList<ByteRange>>();

    /// <summary>
    /// What the caller wants to read although it may not have changed: by disk id, ascending, not overlapping. Drivers that
    /// keep the whole disk readable need not look; <see cref="ICapturedDisk.Reach"/> tells what was granted.
    /// </summary>
    public IReadOnlyDictionary<Id16, IReadOnlyList<ByteRange>> AlsoReadable { get; init; } = new Dictionary<Id16, IReadOnlyList<ByteRange>>();
}

/// <summary>What may be read of a disk that yields changes only.</summary>
public enum ReadReach
{
    /// <summary>The listed extents; anything else may fail or come from a later instant.</summary>
    ListedExtents,

    /// <summary>The listed extents and what <see cref="CaptureRequest.AlsoReadable"/> asked for.</summary>
    AskedRanges,

    /// <summary>Every byte of the disk, in any order, as it was at the cut.</summary>
    Everything,
}

/// <summary>What a caller remembers of a recovery point that it made, or tried to make.</summary>
/// <param name="BaseTokens"><see cref="ICapturedDisk.BaseToken"/> of its disks, by disk id.</param>
public sealed record RememberedPoint(Id16 Point, IReadOnlyDictionary<Id16, string> BaseTokens);

/// <summary>A prediction. Bytes; <paramref name="FleeceBytesMax"/> is what the temporary copy-on-write area could need at worst.</summary>
public sealed record CapturePlan(IReadOnlyList<DiskPlan> Disks, long FleeceBytesMax, long FleeceBytesFree);

/// <param name="ReadBytes">Bytes that a run now would read.</param>
/// <param name="Reason">Why the read is full, or "changed blocks only".</param>
public sealed record DiskPlan(DiskSummary Disk, bool ChangedOnly, long ReadBytes, string Reason);

/// <summary>
/// A frozen view of a machine. Exactly one of <see cref="CommitAsync"/>, <see cref="AbandonAsync"/> and <see cref="DetachAsync"/> ends it;
/// disposing without either abandons. Members of different disks may be used concurrently.
/// An end returns when nothing depends on the view any more. Work that the platform then does by itself, and that can take
/// hours (consolidating a snapshot, merging a checkpoint), is begun and not waited for: the next settlement does.
/// </summary>
public interface ICapture : IAsyncDisposable
{
    MachineConfiguration Configuration { get; }

    CaptureConsistency Consistency { get; }

    /// <summary>What happened around the cut, for people: frozen for how long, or why not.</summary>
    string ConsistencyDetail { get; }

    /// <summary>From the guest's word that its file systems are frozen to its word that they are not; null: they were not, or it gave none.</summary>
    TimeSpan? Frozen => null;

    /// <summary>Disks in the cut.</summary>
    IReadOnlyList<ICapturedDisk> Disks { get; }

    /// <summary>Small memories of the machine at the cut: NVRAM, TPM.</summary>
    IReadOnlyList<MachineContent> Contents => [];

    /// <summary>Memory and processors at the cut; null unless <see cref="CaptureRequest.WithState"/> asked for them.</summary>
    CapturedState? State => null;

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

    /// <summary>What may be read; without being told otherwise, no more than is listed.</summary>
    ReadReach Reach => ReadReach.ListedExtents;

    /// <summary>
    /// Opaque text, at most 1024 characters, known from the cut on: what the driver will track changes by. It is stored with the
    /// point, remembered by the agent before it asks for the commit, and comes back in <see cref="CaptureRequest.BaseTokens"/>.
    /// </summary>
    string BaseToken { get; }

    /// <summary>
    /// Reads must come one at a time, at ascending offsets that do not overlap; what lies between may be left out. For platforms
    /// that hand a disk out as a stream. The driver keeps the stream alive while nobody reads, and grants no more than
    /// <see cref="ReadReach.ListedExtents"/>: what an audit had read before, the run could not read again.
    /// </summary>
    bool SequentialOnly => false;

    /// <summary>
    /// Extents to read: ascending, not overlapping, inside the disk, byte granularity at least 512 except at the end. May be
    /// enumerated more than once, also while the disk is read, whether or not reads must be sequential.
    /// </summary>
    IAsyncEnumerable<ByteRange> ListExtentsAsync(CancellationToken cancellationToken);

    /// <summary>
    /// Fills <paramref name="destination"/> from <paramref name="offset"/>. Many reads may be in flight.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.SnapshotLost"/>: the view broke (fleece full, timeout); the guest is unharmed.</exception>
    ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken);
}
