using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>Decides where the disks of a restore go: into a folder, or to where the machine has its own. Writes nothing.</summary>
internal sealed class RestoredImages(RestoreRequest request, DomainDocument stored, ExistingDomain? existing, List<RestoreFinding> findings)
{
    /// <summary>In the order of the request; a disk that has no place is left out, and a finding that blocks says why.</summary>
    public IReadOnlyList<NewImage> Choose()
    {
        var images = new List<NewImage>();
        var names = new ImageFileNames();
        foreach (var disk in request.Disks)
        {
            if (request.Placement != RestorePlacement.InPlace)
            {
                findings.Add(disk.Format is "qcow2" or "raw"
                    ? new RestoreFinding("disk format", FindingSeverity.Fits, $"Disk {disk.Name} is made as {disk.Format}.")
                    : Blocks("disk format", $"Disk {disk.Name} is to be made as '{disk.Format}'; qcow2 and raw are possible."));
            }
            if (disk.LengthBytes is < 0 or > Limits.DiskBytesMax || disk.LengthBytes % 512 != 0)
            {
                findings.Add(Blocks("disk", $"Disk {disk.Name} has {disk.LengthBytes} bytes; a disk has whole sectors of 512 bytes."));
            }
            if (stored.Disks.FirstOrDefault(candidate => DomainDocument.DiskId(request.Machine, candidate.Target) == disk.Id) is not { } known)
            {
                findings.Add(Blocks("disk", $"The stored configuration does not know disk {disk.Name}."));
            }
            else if (request.Placement == RestorePlacement.NewFolder)
            {
                images.Add(new NewImage(known.Target, Path.Combine(request.Folder, $"{names.Add(disk.Name)}.{disk.Format}"), disk.Format));
            }
            else if (FindPlace(disk, known) is { } place)
            {
                images.Add(place);
            }
        }
        return images;
    }

    private NewImage? FindPlace(RestoreDisk disk, DomainDisk known)
    {
        var replaces = request.Placement == RestorePlacement.Replace;
        switch (existing!.FindDisk(disk.Id))
        {
            case { SkipReason: { } reason }:
                findings.Add(Blocks("disk", $"Disk {disk.Name} of {existing.Name} cannot be written now: {reason}. Restore it into a folder (--disk {disk.Name} --folder), or choose other disks."));
                return null;
            case { Path: { } path } current:
                if (!replaces)
                {
                    findings.Add(new RestoreFinding("disk format", FindingSeverity.Fits, $"Disk {disk.Name} stays {current.Format}."));
                }
                return new NewImage(current.Target, path, replaces ? disk.Format : current.Format);
            case null when replaces && !request.DisksOnly && known.Path is { } former:
                if (Path.Exists(former))
                {
                    findings.Add(Blocks("disk", $"{existing.Name} has no disk {disk.Name} now, and what lies at its former place {former} may be another machine's. Move it away, or restore into a folder (--folder)."));
                    return null;
                }
                return new NewImage(known.Target, former, disk.Format);
            default:
                findings.Add(Blocks("disk", $"{existing.Name} has no disk {disk.Name} now. Attach it again, choose other disks (--disk), {(replaces ? "" : "replace the machine, ")}or restore into a folder (--folder)."));
                return null;
        }
    }

    private static RestoreFinding Blocks(string item, string message) => new(item, FindingSeverity.Blocks, message);
}
