using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Libvirt.Native;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>The machine that a restore writes to, as libvirt has it now.</summary>
/// <param name="Checkpoints">Ours, oldest first.</param>
/// <param name="Others">Names of other tools' checkpoints.</param>
/// <param name="Snapshots">How many snapshots libvirt keeps of it.</param>
internal sealed record ExistingDomain(DomainView View, IReadOnlyList<CheckpointRecord> Checkpoints, IReadOnlyList<string> Others, int Snapshots)
{
    public string Name => View.Document.Name;

    /// <summary>Where its firmware keeps variables, or null.</summary>
    public string? Variables { get; private init; }

    public static async Task<ExistingDomain> ReadAsync(LibvirtConnection connection, Id16 machine, CancellationToken cancellationToken)
    {
        var existing = await connection.QueryAsync(libvirt =>
        {
            using var domain = Domains.Find(libvirt, machine);
            return new ExistingDomain(Domains.Read(domain, new HashSet<string>()), Domains.ReadCheckpoints(domain, measured: false), Domains.ListOtherCheckpoints(domain),
                LibvirtValues.Require(LibvirtCalls.CountSnapshots(domain, 0)));
        }, cancellationToken);
        return existing with { Variables = await FirmwareVariables.FindAsync(connection, existing.View.Document.Root, cancellationToken) };
    }

    public DomainDisk? FindDisk(Id16 id) => View.Document.Disks.FirstOrDefault(disk => DomainDocument.DiskId(View.Document.Uuid, disk.Target) == id);

    /// <summary>What stands in the way of writing to the machine, and what is to be known about it.</summary>
    public IEnumerable<RestoreFinding> Check(RestoreRequest request)
    {
        var replaces = request.Placement == RestorePlacement.Replace;
        if (View.Active)
        {
            yield return Blocks("identity", replaces
                ? $"The machine {Name} is running on this host. Shut it down first (virsh shutdown {Name})."
                : $"The machine {Name} is running: its guest has parts of its disks in memory, which would not fit what is written below it. Shut it down first (virsh shutdown {Name}), or restore into a folder (--folder).");
        }
        if (View.HasSavedState)
        {
            yield return Blocks("machine", $"The machine {Name} has a saved state, which would go on with the disks as they were. Drop it (virsh managedsave-remove {Name}), or start the machine and shut it down.");
        }
        if (replaces && Snapshots > 0)
        {
            yield return Blocks("machine",
                $"libvirt keeps {Snapshots} snapshots of {Name}, which refer to the images that would be replaced. Delete them first (virsh snapshot-list {Name}, virsh snapshot-delete), restore in place, or into a folder.");
        }
        if (replaces && Others.Count > 0)
        {
            yield return new RestoreFinding("checkpoint", FindingSeverity.Adapts, $"Another tool tracks changes of {Name} ({string.Join(", ", Others)}); the new images do not have its bitmaps, so that its next backup must be a full one.");
        }
        var macs = replaces && !request.DisksOnly ? "; its MAC addresses are those of the recovery point." : ", and its MAC addresses.";
        yield return Name == request.Name
            ? new RestoreFinding("name", FindingSeverity.Fits, $"The machine {Name} keeps its name and its UUID{macs}")
            : new RestoreFinding("name", FindingSeverity.Adapts, $"The machine was called {request.Name} and is called {Name} now: it keeps that name and its UUID{macs}");
        foreach (var disk in View.Document.Disks.Where(disk => !request.DisksOnly && disk.SkipReason is null && request.Disks.All(restored => restored.Id != DomainDocument.DiskId(View.Document.Uuid, disk.Target))))
        {
            yield return new RestoreFinding("disk", FindingSeverity.Adapts, replaces
                ? $"Disk {disk.Target} is not in the recovery point: the machine loses it, unless it had it then, too. Its image {disk.Path} stays."
                : $"Disk {disk.Target} is not in the recovery point; it stays as it is.");
        }
    }

    /// <summary>
    /// Since which recovery point the changes of a disk are known: by a bitmap of a checkpoint whose disk was this image. Those of
    /// overlays that were added since hold the newer changes only.
    /// </summary>
    public async Task<ExistingPlace> FindTrackingAsync(RestoreDisk disk, MachineImage image, ImageInspector inspector, CancellationToken cancellationToken)
    {
        if (image.Format != "qcow2")
        {
            return new ExistingPlace(disk, image, null, null, "an image of this format keeps no change tracking");
        }
        var bitmaps = await inspector.ReadBitmapsAsync(image, cancellationToken);
        var detail = "it has no change tracking since an earlier recovery point";
        foreach (var checkpoint in Checkpoints.Reverse())
        {
            var known = checkpoint.Disks.FirstOrDefault(candidate => candidate.Target == image.Name);
            var name = CheckpointRecord.NameOf(checkpoint.Point);
            if (!checkpoint.Tracked.ContainsKey(image.Name) || known is null)
            {
                continue;
            }
            if (known.LengthBytes != disk.LengthBytes || known.Layers is not [var top, ..] || top != image.Path)
            {
                detail = "another image was attached to it, or an overlay was added or committed, since the last recovery point";
                continue;
            }
            switch (bitmaps.FirstOrDefault(bitmap => bitmap.Name == name))
            {
                case { Recording: true, Inconsistent: false }:
                    return new ExistingPlace(disk, image, name, checkpoint.Point, "its changes are tracked");
                case { Inconsistent: true }:
                    detail = "its change tracking is inconsistent, since QEMU was not shut down cleanly";
                    break;
            }
        }
        return new ExistingPlace(disk, image, null, null, detail);
    }

    private static RestoreFinding Blocks(string item, string message) => new(item, FindingSeverity.Blocks, message);
}
