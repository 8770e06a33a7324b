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

    /// <summary>Makes the folders, private to the owner of an image.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: they cannot be made.</exception>
    public static async Task MakeFoldersAsync(IReadOnlyList<string> folders, string ownerOf, ProcessRunner processes, CancellationToken cancellationToken)
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

    /// <summary>Makes an empty image of a disk's length, with owner and rights of the old one.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.DeviceFull"/>, or <see cref="FaultReason.FailedPrecondition"/>: it cannot be made.</exception>
    public static async Task CreateAsync(string qemuImg, string path, string format, long lengthBytes, string old, ProcessRunner processes, CancellationToken cancellationToken)
    {
        await processes.RequireAsync(qemuImg,
            ["create", "-q", "-f", format, path, lengthBytes.ToString(System.Globalization.CultureInfo.InvariantCulture)], ToolTimeout, cancellationToken);
        if (format == "raw")
        {
            using var image = File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite);
            RandomAccess.SetLength(image, lengthBytes); // qemu-img rounds up to whole sectors
        }
        if (BlockDevice.Is(old))
        {
            await processes.RequireAsync("chown", [$"--reference={old}", path], ToolTimeout, cancellationToken);
        }
        else
        {
            await FileOwner.CopyAsync(old, path, processes, cancellationToken);
        }
        DurableFolder.Flush(Path.GetDirectoryName(path)!);
    }
}
