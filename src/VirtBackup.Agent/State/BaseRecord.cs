using VirtBackup.Core;
using VirtBackup.Format.Maps;

namespace VirtBackup.Agent.State;

/// <summary>
/// What an agent remembers of a recovery point that it made itself, so that the next run may share its map: the roots
/// that it computed, not what anybody told it.
/// </summary>
public sealed record BaseRecord(Id16 Point, Id32 ManifestHash, IReadOnlyList<BaseDisk> Disks, IReadOnlyList<Id16> Epochs)
{
    /// <summary>Why changes since this point must not be trusted: the next run reads everything; null: they may be.</summary>
    public string? Suspicion { get; init; }

    /// <summary>What the hypervisor tracks changes by, by disk.</summary>
    public IReadOnlyDictionary<Id16, string> BaseTokens => Disks.DistinctBy(disk => disk.Disk).ToDictionary(disk => disk.Disk, disk => disk.BaseToken);
}

/// <summary>The map of one disk of a base, and the hypervisor's token for it.</summary>
public sealed record BaseDisk(Id16 Disk, long LengthBytes, MapShape Shape, Id32 Root, string BaseToken = "")
{
    /// <summary>How far the audit of this disk's change tracking is; null: a rotation begins with the next run.</summary>
    public AuditRotation? Rotation { get; init; }
}

/// <summary>A way through all spans of a disk, over several runs.</summary>
/// <param name="Key">Decides the order of the spans. Each rotation has its own, from the system's generator.</param>
/// <param name="Position">Spans passed, in that order.</param>
/// <param name="Runs">Runs that it took so far.</param>
public sealed record AuditRotation(Id32 Key, long Position, int Runs);

/// <summary>
/// Where an agent keeps its base records, across restarts. Losing it costs full reads, never data. Safe for concurrent
/// use on different machines.
/// </summary>
public interface IBaseStore
{
    /// <summary>The records of a machine, newest first; none when there are none or they cannot be read.</summary>
    ValueTask<IReadOnlyList<BaseRecord>> LoadAsync(Id16 machine, CancellationToken cancellationToken);

    /// <summary>Replaces the records of a machine durably.</summary>
    ValueTask SaveAsync(Id16 machine, IReadOnlyList<BaseRecord> records, CancellationToken cancellationToken);
}
