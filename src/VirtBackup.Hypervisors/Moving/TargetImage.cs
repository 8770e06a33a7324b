using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;

namespace VirtBackup.Hypervisors.Moving;

/// <summary>Makes the place that an image moves to, for whoever owned the old one.</summary>
internal static class TargetImage
{
    private static readonly TimeSpan ToolTimeout = TimeSpan.FromMinutes(10);

    /// <summary>Folders above the new images that do not exist yet, topmost first.</summary>
    public static IReadOnlyList<string> FindNewFolders(IEnumerable<string> images)
    {
        var folders = new SortedSet<string>(StringComparer.Ordinal);
        foreach (var image in images)
        {
            for (var folder = Path.GetDirectoryName(image); folder is not null && !Directory.Exists(folder); folder = Path.GetDirectoryName(folder))
            {
                folders.Add(folder);
            }
        }
        return [.. folders];
    }

    /// <summary>
    /// Makes the folders, private to the owner of the first image, and takes the new places, so that no other move can have them: empty files
    /// with owner and rights of the old ones. The journal knows of them when this returns or throws.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: they cannot be made, or somebody else was there first.</exception>
    public static async Task ReserveAsync(MoveJournal journal, ProcessRunner processes, CancellationToken cancellationToken)
    {
        var made = new HashSet<string>(StringComparer.Ordinal);
        try
        {
            await MakeFoldersAsync(journal.NewFolders, journal.Disks[0].OldPath, processes, cancellationToken);
            foreach (var disk in journal.Disks)
            {
                Take(disk.NewPath);
                made.Add(disk.NewPath);
            }
        }
        finally
        {
            journal.Reserve(made);
        }
        foreach (var disk in journal.Disks)
        {
            await FileOwner.CopyAsync(disk.OldPath, disk.NewPath, processes, cancellationToken);
        }
    }

    private static void Take(string path)
    {
        try
        {
            using var file = new FileStream(path, FileMode.CreateNew, FileAccess.Write);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.FailedPrecondition,
                Path.Exists(path) ? $"{path} exists already. Choose another folder, or remove it." : $"{path} cannot be made: {failure.Message}", failure);
        }
    }

    private static async Task MakeFoldersAsync(IReadOnlyList<string> folders, string ownerOf, ProcessRunner processes, CancellationToken cancellationToken)
    {
        try
        {
            foreach (var folder in folders)
            {
                PrivateFolder.Create(folder);
                DurableFolder.Flush(Path.GetDirectoryName(folder)!);
                await processes.RequireAsync("chown", [$"--reference={ownerOf}", folder], ToolTimeout, cancellationToken);
            }
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"A folder for the disks cannot be made: {failure.Message}", failure);
        }
    }

    /// <summary>Makes an empty image of a disk's length of a reserved file, which keeps its owner and rights.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.DeviceFull"/>, or <see cref="FaultReason.FailedPrecondition"/>: it cannot be made.</exception>
    public static async Task CreateAsync(string qemuImg, string path, string format, long lengthBytes, ProcessRunner processes, CancellationToken cancellationToken)
    {
        await processes.RequireAsync(qemuImg,
            ["create", "-q", "-f", format, path, lengthBytes.ToString(System.Globalization.CultureInfo.InvariantCulture)], ToolTimeout, cancellationToken);
        if (format == "raw")
        {
            using var image = File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite);
            RandomAccess.SetLength(image, lengthBytes); // qemu-img rounds up to whole sectors
        }
        DurableFolder.Flush(Path.GetDirectoryName(path)!);
    }
}
