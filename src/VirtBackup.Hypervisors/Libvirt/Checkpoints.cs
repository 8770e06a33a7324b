using VirtBackup.Core;
using VirtBackup.Hypervisors.Libvirt.Native;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>Deletes checkpoints of ours, with their bitmaps, also when a part of them is gone. Others are never touched.</summary>
internal static class Checkpoints
{
    private const uint MetadataOnly = 2, Redefine = 1, RedefineValidated = Redefine | 4;

    /// <summary>To be called on the thread of a call, for a running domain.</summary>
    public static void Delete(DomainHandle domain, Id16 point, IReadOnlyList<DomainDisk> disks)
    {
        using (var checkpoint = LibvirtCalls.FindCheckpoint(domain, CheckpointRecord.NameOf(point), 0))
        {
            if (checkpoint.IsInvalid || LibvirtCalls.Delete(checkpoint, 0) == 0)
            {
                return;
            }
            // A disk went away or was exchanged, and its bitmap with it: libvirt then deletes nothing at all.
            LibvirtValues.Require(LibvirtCalls.Delete(checkpoint, MetadataOnly));
        }
        foreach (var disk in disks)
        {
            DeleteBitmap(domain, point, disks, disk.Target);
        }
    }

    /// <summary>Lets libvirt forget a checkpoint of ours whose bitmaps are gone, of a domain that runs or is off. What cannot be forgotten stays.</summary>
    public static void Forget(DomainHandle domain, Id16 point)
    {
        using var checkpoint = LibvirtCalls.FindCheckpoint(domain, CheckpointRecord.NameOf(point), 0);
        if (!checkpoint.IsInvalid)
        {
            _ = LibvirtCalls.Delete(checkpoint, MetadataOnly);
        }
    }

    /// <summary>Removes a bitmap of ours that libvirt does not know any more from one disk, if it is there.</summary>
    public static void DeleteBitmap(DomainHandle domain, Id16 point, IReadOnlyList<DomainDisk> disks, string target)
    {
        var xml = CheckpointRecord.WriteKnown(point, disks, target);
        using var known = LibvirtCalls.CreateCheckpoint(domain, xml, RedefineValidated);
        using var unproven = known.IsInvalid ? LibvirtCalls.CreateCheckpoint(domain, xml, Redefine) : null;
        var checkpoint = known.IsInvalid ? unproven! : known;
        if (!checkpoint.IsInvalid && LibvirtCalls.Delete(checkpoint, 0) < 0)
        {
            _ = LibvirtCalls.Delete(checkpoint, MetadataOnly);
        }
    }
}
