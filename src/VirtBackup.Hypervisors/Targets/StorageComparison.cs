using System.Globalization;

namespace VirtBackup.Hypervisors.Targets;

/// <summary>Whether disks can lie on a file system, whatever platform uses them.</summary>
internal static class StorageComparison
{
    private const long FatFileBytesMax = (4L << 30) - 1;
    private static readonly HashSet<string> Volatile = ["tmpfs", "ramfs", "rootfs"];
    private static readonly HashSet<string> Remote = ["nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "fuse.glusterfs", "9p", "virtiofs"];
    private static readonly HashSet<string> ReadOnly = ["iso9660", "squashfs", "erofs", "udf"];

    public static IEnumerable<RestoreFinding> Compare(RestoreRequest request, TargetStorage storage) =>
        Compare([.. request.Disks.Select(static disk => (disk.Name, disk.LengthBytes))], storage, "restored");

    /// <param name="what">What is done to the disks: <c>restored</c>, <c>moved</c>.</param>
    public static IEnumerable<RestoreFinding> Compare(IReadOnlyList<(string Name, long LengthBytes)> disks, TargetStorage storage, string what)
    {
        if (storage.WriteProblem is { } problem)
        {
            yield return Found(FindingSeverity.Blocks, $"Nothing can be written below {storage.Folder}: {problem}. Choose another folder, or change its rights.");
        }
        yield return storage.Kind switch
        {
            "" => Found(FindingSeverity.Unknown, $"The system does not tell on what kind of file system {storage.Folder} lies, and so not what it allows."),
            var kind when ReadOnly.Contains(kind) => Found(FindingSeverity.Blocks, $"{storage.Name} holds read-only media. Choose another folder."),
            var kind when Volatile.Contains(kind) => Found(FindingSeverity.Adapts, $"{storage.Name} lies in the host's memory: the {what} disks are gone when it is switched off."),
            var kind when Remote.Contains(kind) => Found(FindingSeverity.Adapts, $"{storage.Name} is another computer's: the machine depends on it and on the network."),
            var kind when kind is "vfat" or "msdos" or "exfat" && TooLong(disks, kind) is { } disk => Found(
                FindingSeverity.Blocks, $"Disk {disk} has more than 4 GiB, which a file on {storage.Name} cannot have. Choose another folder."),
            _ => Found(FindingSeverity.Fits, storage.Name + (storage.SectorBytes is { } sector ? string.Create(CultureInfo.InvariantCulture, $", sectors of {sector} bytes.") : ".")),
        };
    }

    private static string? TooLong(IReadOnlyList<(string Name, long LengthBytes)> disks, string kind) =>
        kind == "exfat" ? null : disks.FirstOrDefault(static disk => disk.LengthBytes > FatFileBytesMax).Name;

    private static RestoreFinding Found(FindingSeverity severity, string message) => new("storage", severity, message);
}
