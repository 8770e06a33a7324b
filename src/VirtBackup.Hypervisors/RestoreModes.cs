using VirtBackup.Core;

namespace VirtBackup.Hypervisors;

/// <summary>Where a restored machine goes.</summary>
public enum RestorePlacement
{
    /// <summary>Into a folder of its own, which holds nothing yet.</summary>
    NewFolder = 0,
    /// <summary>
    /// In place of the existing machine, which must be stopped: new images take the names of the old ones when all are
    /// complete. Until then, and when anything fails, the old machine is as it was.
    /// </summary>
    Replace,
    /// <summary>
    /// Onto the existing disks of the stopped machine, which become equal to the recovery point. A run that breaks off
    /// leaves a mark beside each disk, so that the machine is neither started nor backed up until a later run has finished.
    /// </summary>
    InPlace,
}

/// <summary>What a driver can do in a restore besides making a new machine as it was.</summary>
[Flags]
public enum RestoreAbilities
{
    None = 0,
    Replace = 1,
    InPlace = 1 << 1,
    /// <summary>Images without the machine: <see cref="RestoreRequest.DisksOnly"/>.</summary>
    DisksOnly = 1 << 2,
    /// <summary><see cref="RestoreDisk.Bus"/>.</summary>
    BusMapping = 1 << 3,
    /// <summary><see cref="RestoreRequest.Networks"/>.</summary>
    NetworkMapping = 1 << 4,
    /// <summary><see cref="RestoreRequest.Adopt"/>.</summary>
    Adopt = 1 << 5,
    /// <summary><see cref="RestoreRequest.State"/>.</summary>
    State = 1 << 6,
}

/// <param name="From">A network as the stored machine names it: a bridge, an interface, or the id of a connection.</param>
/// <param name="To">Its name on this host, or <see cref="Isolated"/>.</param>
public sealed record NetworkMapping(string From, string To)
{
    /// <summary>Connected to nothing.</summary>
    public const string Isolated = "isolated";
}

/// <summary>
/// A disk that exists and is to become equal to a recovery point. Nothing is written before the caller does. Safe for
/// concurrent use on different ranges.
/// </summary>
public interface IExistingDisk : IRestoredDisk
{
    /// <summary>The recovery point since which every change of the disk is known; null: none.</summary>
    Id16? TrackedSince { get; }

    /// <summary>Why changes are known or not, for people.</summary>
    string TrackingDetail { get; }

    /// <summary>What may have changed since <see cref="TrackedSince"/>, as it was when the disk was opened; ascending, not overlapping.</summary>
    IReadOnlyList<ByteRange> ChangedExtents { get; }

    /// <summary>The parts of a range that may hold other bytes than zeros, as the disk is now; ascending.</summary>
    IAsyncEnumerable<ByteRange> ListDataAsync(ByteRange range, CancellationToken cancellationToken);

    ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken);

    ValueTask WriteZerosAsync(ByteRange range, CancellationToken cancellationToken);
}
