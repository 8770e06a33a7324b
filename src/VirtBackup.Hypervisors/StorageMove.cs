using VirtBackup.Core;

namespace VirtBackup.Hypervisors;

/// <summary>Disks of a machine that are to lie elsewhere on the same host.</summary>
/// <param name="Target">Absolute path of the folder that they go to, which need not exist; drivers can know other names, such as <c>pool:NAME</c>.</param>
public sealed record StorageMoveRequest(Id16 Machine, string Target)
{
    /// <summary>Which disks; none: all that are captured.</summary>
    public IReadOnlyList<DiskMove> Disks { get; init; } = [];

    /// <summary><c>qcow2</c> or <c>raw</c>; null: as each is.</summary>
    public string? Format { get; init; }

    /// <summary>Bytes copied in a second at most; 0: no limit. What the guest writes meanwhile is not held up by it.</summary>
    public long BytesPerSecondMax { get; init; }

    /// <summary>The old images stay, under other names.</summary>
    public bool KeepSource { get; init; }

    /// <summary>Takes lines for the job's log; quick, and safe from any thread.</summary>
    public Action<string> Log { get; init; } = static _ => { };

    /// <summary>Told some times a second how far the move is; quick, and safe from any thread.</summary>
    public Action<StorageMoveProgress> Progress { get; init; } = static _ => { };
}

/// <param name="Name">As <see cref="DiskSummary.Name"/>.</param>
/// <param name="Target">Null: as for all.</param>
/// <param name="Format">Null: as for all.</param>
public sealed record DiskMove(string Name, string? Target = null, string? Format = null);

/// <param name="BytesTotal">Grows while the guest writes.</param>
public sealed record StorageMoveProgress(string Phase, long BytesTotal, long BytesDone);

/// <summary>A prediction; nothing was touched for it.</summary>
/// <param name="Running">The move would be a live one.</param>
/// <param name="Path">From where to where and how, for people, and to judge a move by others on the same path: the same words as long as it is the same storage.</param>
/// <param name="Findings">Any with <see cref="FindingSeverity.Blocks"/> means that the move would be refused.</param>
public sealed record StorageMovePlan(Id16 Machine, bool Running, string Path, IReadOnlyList<PlannedMove> Disks, IReadOnlyList<RestoreFinding> Findings)
{
    public bool Refused => Findings.Any(static finding => finding.Severity == FindingSeverity.Blocks);

    public long DataBytes => Disks.Sum(static disk => disk.DataBytes);
}

/// <param name="OldPath">Absolute.</param>
/// <param name="NewPath">Absolute.</param>
/// <param name="Format">Of the new image.</param>
/// <param name="DataBytes">That the image takes, with what it builds on: about what will be copied.</param>
public sealed record PlannedMove(DiskSummary Disk, string OldPath, string NewPath, string Format, long DataBytes);

/// <param name="Interruption">For how long the guest stood still; null: it did not run.</param>
/// <param name="KeptPaths">Old images that are still there.</param>
public sealed record StorageMoveOutcome(
    IReadOnlyList<MovedDisk> Disks, TimeSpan? Interruption, IReadOnlyList<string> KeptPaths, IReadOnlyList<RestoreFinding> Findings);

/// <param name="BytesMoved">Copied, again where the guest wrote meanwhile.</param>
public sealed record MovedDisk(PlannedMove Move, long BytesMoved, TimeSpan Elapsed);

/// <param name="Bytes">Read from the old place and written to the new one; 0: no measurement could be made.</param>
/// <param name="Seconds">Until they were on stable storage.</param>
public readonly record struct MoveSample(long Bytes, double Seconds);

/// <summary>
/// Drivers that move a machine's disks to another storage of the same host, while it runs or is off. The machine's recovery points and
/// change tracking go on at the new place. Until every disk has its new place, nothing of the old is changed; whatever breaks off before
/// leaves the machine where it was, and <see cref="IHypervisor.ReleaseGuestsAsync"/> and the settlement remove what a killed run left, or finish it.
/// Operations on one machine are serialised by the caller.
/// </summary>
public interface IStorageMover
{
    /// <summary>Compares the old and the new storage, and says what would move where. Writes nothing.</summary>
    /// <exception cref="FaultException">The machine cannot be looked at.</exception>
    ValueTask<StorageMovePlan> CheckMoveAsync(StorageMoveRequest request, CancellationToken cancellationToken);

    /// <summary>Copies some of the old images to nameless files on the new storage, for at most some seconds. Nothing of it is left.</summary>
    ValueTask<MoveSample> SampleMoveAsync(StorageMovePlan plan, CancellationToken cancellationToken);

    /// <summary>Moves; disks that lie at their new places already are left alone. Cancelling brings back the old state until the machine is about to change over; from then on it is ignored.</summary>
    /// <exception cref="FaultException">
    /// Nothing was moved and nothing is left, unless the message says otherwise. <see cref="FaultReason.FailedPrecondition"/>: the check blocks;
    /// <see cref="FaultReason.DeviceFull"/>: no space at the new place; <see cref="FaultReason.HypervisorUnavailable"/>: the machine ended.
    /// </exception>
    ValueTask<StorageMoveOutcome> MoveAsync(StorageMoveRequest request, CancellationToken cancellationToken);
}
