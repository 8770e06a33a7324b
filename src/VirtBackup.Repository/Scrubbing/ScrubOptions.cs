using VirtBackup.Format;
using VirtBackup.Repository.Rebuilding;

namespace VirtBackup.Repository.Scrubbing;

/// <summary>How one run of the scrub works.</summary>
public sealed record ScrubOptions
{
    /// <summary>Packs whose proof is older are read; Unix milliseconds.</summary>
    public required long CheckedBeforeMs { get; init; }

    /// <summary>Packs, by their keys in the store, that are read before any other, whatever their proof; unknown ones are passed over.</summary>
    public IReadOnlyCollection<string> First { get; init; } = [];

    /// <summary>The run ends once it has read so many bytes; null: when nothing is due any more.</summary>
    public long? BytesMax { get; init; }

    /// <summary>Bytes that may be read in one second; null: no limit.</summary>
    public long? BytesPerSecond { get; init; }

    /// <summary>Finds which chunks of a damaged pack are sound; without it all of them are in doubt.</summary>
    public IChunkOpener? Opener { get; init; }

    /// <summary>Told after every pack, from any thread.</summary>
    public IProgress<ScrubProgress>? Progress { get; init; }
}

/// <summary>How far a run is. Bytes of packs; the total is what was due at its start.</summary>
public readonly record struct ScrubProgress(long Packs, long Bytes, long BytesTotal, long Damages);

/// <summary>What a run did.</summary>
public sealed record ScrubReport
{
    public long Packs { get; init; }

    public long Bytes { get; init; }

    /// <summary>Packs that were found damaged, and what became of them; at most <see cref="FindingsMax"/>.</summary>
    public IReadOnlyList<ScrubFinding> Findings { get; init; } = [];

    /// <summary>Packs that could not be read, or are at odds with the index; at most <see cref="FindingsMax"/>. They are tried again.</summary>
    public IReadOnlyList<ObjectProblem> Problems { get; init; } = [];

    /// <summary>All findings and problems.</summary>
    public long DamageCount { get; init; }

    /// <summary>Nothing that was due is left, but what could not be read.</summary>
    public bool IsDone { get; init; }

    /// <summary>Findings and problems that are listed one by one.</summary>
    public const int FindingsMax = 1000;
}

/// <summary>A damaged pack, and what became of its records.</summary>
/// <param name="ObjectKey">Its key in the store.</param>
/// <param name="Problem">What is wrong, for people.</param>
/// <param name="RecordsLost">No sound copy of them is known.</param>
/// <param name="RecordsDoubtful">Without keys nobody knows which of them are damaged; they can be read.</param>
/// <param name="RecordsSaved">They were sound, and lie in a new pack now.</param>
/// <param name="RecordsCovered">They were damaged, and another pack holds them, too.</param>
public sealed record ScrubFinding(string ObjectKey, string Problem, long RecordsLost, long RecordsDoubtful, long RecordsSaved, long RecordsCovered);

/// <summary>How much of the repository is proven.</summary>
/// <param name="Bytes">Of all packs in use.</param>
/// <param name="BytesProven">Of those that were read and found sound since the time that was asked for.</param>
/// <param name="OldestMs">The oldest proof of a pack in use, Unix milliseconds; 0: one was never read; null: there is no pack.</param>
public readonly record struct ProofSummary(long Bytes, long BytesProven, long? OldestMs);

/// <summary>A pack that was found damaged. Times are Unix milliseconds.</summary>
/// <param name="ObjectKey">Its key in the store, where it may not be any more.</param>
/// <param name="Problem">What is wrong, for people.</param>
/// <param name="Records">Records that had no sound copy then.</param>
/// <param name="RecordsLost">Of these, in quarantine still.</param>
/// <param name="RecordsDoubtful">Of these, in doubt still.</param>
/// <param name="FoundMs">When it was found.</param>
/// <param name="HealedMs">When every record had a sound copy again, or was not needed any more; 0: not yet.</param>
public sealed record DamagedPack(string ObjectKey, string Problem, long Records, long RecordsLost, long RecordsDoubtful, long FoundMs, long HealedMs);

/// <summary>What healing did.</summary>
/// <param name="Healed">Records that have a sound copy again, and where it came from; the first <see cref="ListedMax"/>.</param>
/// <param name="HealedCount">All of them.</param>
/// <param name="Missing">Records that no source had.</param>
public sealed record HealReport(IReadOnlyList<(HealedRecord Record, string Source)> Healed, long HealedCount, long Missing)
{
    /// <summary>Records that are listed one by one.</summary>
    public const int ListedMax = 10_000;
}
