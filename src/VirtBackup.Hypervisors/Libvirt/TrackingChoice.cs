using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>
/// Decides by which checkpoint changes are read, and which checkpoints go. libvirt lets every bitmap record until it is
/// deleted: each holds all changes since its own point, so any may go without harm to another. Pure logic.
/// </summary>
internal static class TrackingChoice
{
    /// <summary>The checkpoint that stays: the newest of a committed point.</summary>
    /// <param name="checkpoints">Ours, oldest first.</param>
    public static CheckpointRecord? Keep(IReadOnlyList<CheckpointRecord> checkpoints, Func<Id16, bool> committed) =>
        checkpoints.LastOrDefault(checkpoint => committed(checkpoint.Point));

    /// <summary>The checkpoint of the base point, or, to tell why there is none, the newest of ours.</summary>
    /// <param name="checkpoints">Ours, oldest first.</param>
    public static CheckpointRecord? Basis(List<CheckpointRecord> checkpoints, Id16? point) =>
        point is { } basis ? checkpoints.Find(checkpoint => checkpoint.Point == basis) : checkpoints is [.., var newest] ? newest : null;

    /// <summary>Whether at least one disk can be read by changes since the checkpoint.</summary>
    public static bool IsUseful(CheckpointRecord checkpoint, IEnumerable<LibvirtDisk> disks) =>
        disks.Any(disk => disk.Captured && ReasonAgainst(checkpoint, disk) is null);

    /// <summary>Whether a disk is read by changes, and the reason for people.</summary>
    /// <param name="basis">As <see cref="Basis"/> finds it.</param>
    public static (bool ChangedOnly, string Reason) Choose(CheckpointRecord? basis, Id16? point, LibvirtDisk disk) => Choose(basis, point, disk, ReasonAgainst);

    /// <param name="reasonAgainst">Why a checkpoint does not tell the changes of a disk, or null.</param>
    public static (bool ChangedOnly, string Reason) Choose(
        CheckpointRecord? basis, Id16? point, LibvirtDisk disk, Func<CheckpointRecord, LibvirtDisk, string?> reasonAgainst)
    {
        if (!disk.KeepsBitmaps)
        {
            return (false, disk.Format == "qcow2"
                ? "read in full: its image is of qcow2 version 2, which cannot keep change tracking (qemu-img amend -o compat=1.1 raises it)"
                : $"read in full: libvirt tracks changes of qcow2 images only, and this disk is {disk.Format}");
        }
        if (basis is null)
        {
            return (false, point is null ? "read in full: no change tracking since an earlier recovery point is there to build on"
                : "read in full: its checkpoint is gone (the machine was undefined, or somebody deleted it)");
        }
        if (reasonAgainst(basis, disk) is { } against)
        {
            return (false, $"read in full: {against}");
        }
        return basis.Point == point ? (true, "changed blocks only") : (false, "read in full: no change tracking since an earlier recovery point is there to build on");
    }

    private static string? ReasonAgainst(CheckpointRecord checkpoint, LibvirtDisk disk) => MismatchOf(checkpoint, disk)
        ?? (checkpoint.Tracked[disk.Target] is null ? "its change tracking is missing or inconsistent, since QEMU was not shut down cleanly or the image was exchanged" : null);

    /// <summary>Why the disk is not the one that the checkpoint knows, or null; nothing is said of its bitmap.</summary>
    public static string? MismatchOf(CheckpointRecord checkpoint, LibvirtDisk disk)
    {
        if (!checkpoint.Tracked.ContainsKey(disk.Target))
        {
            return "it was not part of the last recovery point, or could not keep change tracking then";
        }
        if (checkpoint.Disks.FirstOrDefault(candidate => candidate.Target == disk.Target) is not { } known)
        {
            return "its checkpoint does not tell what the disk was then";
        }
        if (known.LengthBytes != disk.LengthBytes)
        {
            return $"it was resized from {known.LengthBytes} to {disk.LengthBytes} bytes";
        }
        var top = disk.Layers.Count > 0 ? disk.Layers[0] : "";
        var isAnothers = checkpoint.Disks.Any(other => other.Target != disk.Target && other.Layers.Count > 0 && other.Layers[0] == top);
        return isAnothers || !known.Layers.Any(disk.Layers.Contains) ? "another image was attached to this device since the last recovery point" : null;
    }
}

/// <summary>A disk of a domain with what only libvirt or the image can tell.</summary>
/// <param name="AllocatedBytes">Bytes that its image takes.</param>
/// <param name="KeepsBitmaps">Its image can store bitmaps (qcow2 version 3).</param>
/// <param name="Problem">Why it cannot be captured now, and with it the machine, or null.</param>
internal sealed record LibvirtDisk(DiskSummary Summary, DomainDisk Source, long AllocatedBytes, bool KeepsBitmaps, string? Problem = null)
{
    public string Target => Source.Target;

    public string Format => Source.Format;

    public long LengthBytes => Summary.LengthBytes;

    public IReadOnlyList<string> Layers => Source.Layers;

    public bool Captured => Summary.SkipReason is null;
}
