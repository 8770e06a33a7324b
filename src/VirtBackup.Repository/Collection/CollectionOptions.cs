using VirtBackup.Core;
using VirtBackup.Repository.Auditing;

namespace VirtBackup.Repository.Collection;

/// <summary>How one run of the collector works.</summary>
public sealed record CollectionOptions
{
    /// <summary>The times that protect from deleting too early.</summary>
    public CollectionSafety Safety { get; init; } = CollectionSafety.Default;

    /// <summary>The time that decides what is old enough; null: the repository's clock.</summary>
    public ITrustedClock? Time { get; init; }

    /// <summary>Counts what a run would do at this moment and changes nothing.</summary>
    public bool IsDryRun { get; init; }

    /// <summary>A pack is written anew when at least this share of its bytes is dead, percent: 1 to 100.</summary>
    public int RepackDeadPercent { get; init; } = 30;

    /// <summary>A run begins with an audit of all counts when the last one is older; always when there was none.</summary>
    public TimeSpan AuditEvery { get; init; } = TimeSpan.FromDays(30);

    /// <summary>Bytes that repacking may read from the store in one second; null: no limit.</summary>
    public long? BytesPerSecond { get; init; }

    /// <summary>Told how the run goes on, from any thread.</summary>
    public IProgress<CollectionProgress>? Progress { get; init; }
}

/// <summary>The stages of a run, in their order.</summary>
public enum CollectionStage
{
    /// <summary>Nothing has begun.</summary>
    None = 0,

    /// <summary>Compares the manifests in the store with the index; any difference ends the run.</summary>
    Plan = 1,

    /// <summary>Recounts all references, if that is due.</summary>
    Audit = 9,

    /// <summary>Lets go of points that were forgotten long enough ago.</summary>
    Purge = 2,

    /// <summary>Nodes that nothing refers to release their children.</summary>
    Release = 3,

    /// <summary>The first look: what has no reference is condemned.</summary>
    Condemn = 4,

    /// <summary>The second look: what is still without reference leaves the index.</summary>
    Remove = 5,

    /// <summary>Packs without anything alive are marked for deletion.</summary>
    Trash = 7,

    /// <summary>Packs that were marked long enough ago are deleted.</summary>
    Empty = 8,

    /// <summary>Packs with much that is dead are written anew without it, and marked.</summary>
    Repack = 6,
}

/// <summary>How far a run is.</summary>
/// <param name="Stage">At which stage.</param>
/// <param name="Report">What was done so far.</param>
public readonly record struct CollectionProgress(CollectionStage Stage, CollectionReport Report);

/// <summary>Whether space is being freed.</summary>
/// <param name="FinishedMs">When a run last came to its end, Unix milliseconds; 0: never yet.</param>
/// <param name="AuditedMs">When the last recount ended, Unix milliseconds; 0: none since the index was made.</param>
/// <param name="AuditProblem">Why nothing is deleted before a sound recount; null: it was sound.</param>
public readonly record struct CollectionState(long FinishedMs, long AuditedMs, string? AuditProblem);

/// <summary>What a run did; of a dry run, what it would do at this moment. Bytes are those in the store.</summary>
public sealed record CollectionReport
{
    /// <summary>Number of this run since the index was made.</summary>
    public long Cycle { get; init; }

    public bool IsDryRun { get; init; }

    /// <summary>The audit that was due; null: none was.</summary>
    public AuditReport? Audit { get; init; }

    /// <summary>Forgotten points that were let go for good.</summary>
    public long PointsPurged { get; init; }

    /// <summary>Which they were.</summary>
    public IReadOnlyList<Id16> PurgedPoints { get; init; } = [];

    /// <summary>Forgotten points that can still be brought back.</summary>
    public long PointsKept { get; init; }

    /// <summary>Map nodes that released their children.</summary>
    public long NodesReleased { get; init; }

    /// <summary>Records that were condemned.</summary>
    public long RecordsCondemned { get; init; }

    /// <summary>Records that left the index, and their bytes.</summary>
    public long RecordsRemoved { get; init; }

    public long BytesRemoved { get; init; }

    /// <summary>Packs that were written anew, and the bytes of what was alive in them.</summary>
    public long PacksRepacked { get; init; }

    public long BytesRepacked { get; init; }

    /// <summary>Packs that were marked for deletion, and their bytes.</summary>
    public long PacksTrashed { get; init; }

    public long BytesTrashed { get; init; }

    /// <summary>Packs that were deleted, and the bytes that became free.</summary>
    public long PacksDeleted { get; init; }

    public long BytesFreed { get; init; }

    /// <summary>Rows of the index that were looked at, and map nodes and bytes that were read: what the run cost.</summary>
    public long RowsRead { get; init; }

    public long NodesRead { get; init; }

    public long BytesRead { get; init; }

    /// <summary>What was left alone because it is damaged; at most <see cref="ProblemsMax"/>.</summary>
    public IReadOnlyList<string> Problems { get; init; } = [];

    /// <summary>Problems that are listed one by one.</summary>
    public const int ProblemsMax = 100;
}
