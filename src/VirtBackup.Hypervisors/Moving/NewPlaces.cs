using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;

namespace VirtBackup.Hypervisors.Moving;

/// <summary>A disk as a driver finds it, before it is moved.</summary>
/// <param name="Path">Absolute.</param>
/// <param name="DataBytes">That its image takes, with those below it.</param>
/// <param name="BuildsOnOthers">Its image has a backing image.</param>
/// <param name="Uncached">It is read and written past the host's page cache.</param>
internal sealed record MovableDisk(DiskSummary Summary, string Path, long DataBytes, bool BuildsOnOthers, bool Uncached = false)
{
    /// <summary>What only this platform finds in the way, or null.</summary>
    public string? Problem { get; init; }
}

/// <summary>Works out which disks go where.</summary>
internal static class NewPlaces
{
    /// <param name="disks">All of the machine.</param>
    /// <param name="records">Of machines that came to this host: their folders are removed with them.</param>
    /// <param name="folderOf">The folder that a target means, or a fault that says why it means none.</param>
    public static List<(MovableDisk Disk, PlannedMove Move)> Plan(
        StorageMoveRequest request, IReadOnlyList<MovableDisk> disks, Func<string, string> folderOf, MovingRecords records, List<RestoreFinding> findings)
    {
        var planned = new List<(MovableDisk, PlannedMove)>();
        var taken = new HashSet<string>(StringComparer.Ordinal);
        foreach (var name in request.Disks.Select(static disk => disk.Name).Where(name => disks.All(disk => disk.Summary.Name != name)).Distinct(StringComparer.Ordinal))
        {
            findings.Add(Blocks("disk", $"The machine has no disk '{name}'; it has {string.Join(", ", disks.Select(static disk => disk.Summary.Name))}."));
        }
        foreach (var disk in disks)
        {
            var chosen = request.Disks.FirstOrDefault(move => move.Name == disk.Summary.Name);
            if (request.Disks.Count > 0 && chosen is null)
            {
                continue;
            }
            if (disk.Summary.SkipReason is { } skip)
            {
                if (chosen is not null)
                {
                    findings.Add(Blocks("disk", $"Disk {disk.Summary.Name} cannot be moved: {skip}."));
                }
                continue;
            }
            if (disk.Problem is { } problem)
            {
                findings.Add(Blocks("disk", problem));
                continue;
            }
            var format = chosen?.Format ?? request.Format ?? disk.Summary.Format;
            if (format is not ("raw" or "qcow2") || disk.Summary.Format is not ("raw" or "qcow2"))
            {
                findings.Add(Blocks("disk format", $"Disk {disk.Summary.Name} is {disk.Summary.Format} and is to be {format}; images of qcow2 and raw can be moved."));
                continue;
            }
            try
            {
                var folder = Path.GetFullPath(folderOf(chosen?.Target ?? request.Target));
                var path = Name(disk, folder, format, taken);
                // A move that is ordered again has been made.
                if (path == disk.Path && format == disk.Summary.Format)
                {
                    findings.Add(new RestoreFinding("disk", FindingSeverity.Fits, $"Disk {disk.Summary.Name} lies at {path} already."));
                    continue;
                }
                if (KnownPlaces.FindOwner(records, path, request.Machine) is { } owner)
                {
                    findings.Add(Blocks("target", $"The folder {folder} lies in {owner.Folder}, that of {owner.Name}, which came to this host and is removed with its folder. Choose another one."));
                    continue;
                }
                planned.Add((disk, new PlannedMove(disk.Summary, disk.Path, path, format, disk.DataBytes)));
            }
            catch (FaultException fault)
            {
                findings.Add(Blocks("target", fault.Message));
            }
        }
        if (planned.Count == 0 && findings.Count == 0)
        {
            findings.Add(Blocks("disk", "The machine has no disk that can be moved."));
        }
        return planned;
    }

    /// <summary>A folder of this host, as it is given.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: it is something else.</exception>
    public static string FolderOf(string target)
    {
        if (!Path.IsPathFullyQualified(target))
        {
            throw new FaultException(FaultReason.InvalidArgument, $"'{target}' is not the absolute path of a folder of this host.");
        }
        return BlockDevice.Is(target) ? throw new FaultException(FaultReason.Unsupported, $"{target} is a device. Disks are moved into files: name a folder.")
            : File.Exists(target) ? throw new FaultException(FaultReason.InvalidArgument, $"{target} is a file. Name a folder.")
            : target;
    }

    private static string Name(MovableDisk disk, string folder, string format, HashSet<string> taken)
    {
        var isFile = !BlockDevice.Is(disk.Path);
        var stem = isFile ? Path.GetFileNameWithoutExtension(disk.Path) : new ImageFileNames().Add(disk.Summary.Name);
        var ending = isFile && format == disk.Summary.Format ? Path.GetExtension(disk.Path) : $".{format}";
        var path = Path.Combine(folder, stem + ending);
        for (var i = 2; !taken.Add(path); i++)
        {
            path = Path.Combine(folder, $"{stem}-{i}{ending}");
        }
        return path;
    }

    public static RestoreFinding Blocks(string item, string message) => new(item, FindingSeverity.Blocks, message);
}
