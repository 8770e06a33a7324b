using VirtBackup.Hypervisors.Moving;
using VirtBackup.Hypervisors.Targets;

namespace VirtBackup.Hypervisors.Images;

/// <summary>What every restore into a folder of its own asks of that folder. Writes nothing.</summary>
internal static class RestoreFolder
{
    /// <summary>Longest path of a socket (unix(7), sun_path), and room for the longest name of one in the folder.</summary>
    private const int SocketPathMax = 107, SocketNameMax = 24;

    /// <summary>For launch record and metadata, bytes.</summary>
    private const long SpareBytes = 16 << 20;

    /// <summary>Whether the folder can be used and its file system has room for the disks.</summary>
    /// <param name="records">Of machines that came to this host: their folders are removed with them.</param>
    /// <param name="isMachine">A machine is to be started there: its options name the folder, its sockets lie in it.</param>
    public static IEnumerable<RestoreFinding> Check(RestoreRequest request, bool isMachine, MovingRecords records)
    {
        var folder = request.Folder;
        // A comma would end an option of the machine.
        if (!Path.IsPathFullyQualified(folder) || (isMachine && folder.Contains(',', StringComparison.Ordinal)))
        {
            yield return Blocks("folder", $"The folder '{folder}' must be an absolute path{(isMachine ? " without commas" : "")}.");
            yield break;
        }
        if (KnownPlaces.FindOwner(records, folder) is { } owner)
        {
            yield return Blocks("folder", $"The folder {folder} lies in {owner.Folder}, that of {owner.Name}, which came to this host and is removed with its folder. Choose another one.");
        }
        // Images other than raw ones are written through a server with a socket of its own.
        if ((isMachine || request.Disks.Any(disk => disk.Format != "raw")) && folder.Length + SocketNameMax > SocketPathMax)
        {
            yield return Blocks("folder", $"The folder {folder} has too long a path for the sockets in it; choose one of at most {SocketPathMax - SocketNameMax} characters.");
        }
        var parent = Path.GetDirectoryName(folder.TrimEnd('/'));
        if (parent is null || !Directory.Exists(parent))
        {
            yield return Blocks("folder", $"The folder {parent ?? folder} does not exist.");
            yield break;
        }
        if (File.Exists(folder))
        {
            yield return Blocks("folder", $"{folder} is a file. Choose a folder that is empty or does not exist yet.");
        }
        else if (Directory.Exists(folder) && Directory.EnumerateFileSystemEntries(folder).Any())
        {
            yield return Blocks("folder", $"The folder {folder} is not empty. Choose another one.");
        }
        var needed = request.Disks.Sum(disk => request.Preallocation == DiskPreallocation.Full ? disk.LengthBytes : Math.Min(disk.DataBytes, disk.LengthBytes)) + SpareBytes
            + (request.State is { } state ? state.Memory.DataBytes + state.Devices.DataBytes : 0);
        var storage = TargetStorage.Of(folder);
        foreach (var finding in StorageComparison.Compare(request, storage))
        {
            yield return finding;
        }
        var free = storage.FreeBytes;
        var space = $"{needed >> 20} MiB are needed at {folder}, {free >> 20} MiB are free.";
        yield return free < needed ? Blocks("space", $"{space} Free space there, or choose another folder.") : new RestoreFinding("space", FindingSeverity.Fits, space);
    }

    private static RestoreFinding Blocks(string item, string message) => new(item, FindingSeverity.Blocks, message);
}
