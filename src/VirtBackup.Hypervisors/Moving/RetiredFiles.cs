using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;

namespace VirtBackup.Hypervisors.Moving;

/// <summary>The disks of machines that are out of use, under names by which nobody starts them. Their record is written before, so that all of this can be finished or undone.</summary>
internal static class RetiredFiles
{
    private const string Suffix = ".virtbackup-retired";

    /// <summary>What of the paths can be renamed: files that are there.</summary>
    public static IReadOnlyList<RenamedFile> Choose(IEnumerable<string> paths) =>
        [.. paths.Where(static path => File.Exists(path) && !BlockDevice.Is(path)).Distinct(StringComparer.Ordinal).Select(static path => new RenamedFile(path, path + Suffix))];

    /// <returns>The new names.</returns>
    public static IReadOnlyList<string> Rename(RetiredRecord record)
    {
        foreach (var file in record.Files.Where(static file => File.Exists(file.From) && !File.Exists(file.To)))
        {
            Move(file.From, file.To);
        }
        return [.. record.Files.Select(static file => file.To).Where(File.Exists)];
    }

    /// <exception cref="FaultException">The disks were deleted, or other files have their names.</exception>
    public static void NameBack(RetiredRecord record)
    {
        if (record.Deleted)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The disks of {record.Name} were deleted on this host: restore it from a recovery point.");
        }
        foreach (var file in record.Files.Where(static file => File.Exists(file.To)))
        {
            if (File.Exists(file.From))
            {
                throw new FaultException(FaultReason.AlreadyExists, $"{file.From} is there again, so that {file.To} cannot get its name back. Move one of them away.");
            }
            Move(file.To, file.From);
        }
    }

    /// <returns>What was deleted.</returns>
    public static List<string> Delete(RetiredRecord record)
    {
        var removed = new List<string>();
        // What lies under the old name of a file that was renamed is somebody else's.
        foreach (var path in record.Files.Select(static file => File.Exists(file.To) ? file.To : file.From).Where(File.Exists))
        {
            File.Delete(path);
            removed.Add(path);
        }
        return removed;
    }

    /// <summary>Removes the folder of a machine that came here by a restore, which made it.</summary>
    /// <returns>It; nothing when it was not there.</returns>
    public static IReadOnlyList<string> DeleteFolder(string folder)
    {
        if (!Directory.Exists(folder))
        {
            return [];
        }
        Directory.Delete(folder, recursive: true);
        DurableFolder.Flush(Path.GetDirectoryName(folder.TrimEnd('/'))!);
        return [folder];
    }

    private static void Move(string from, string to)
    {
        File.Move(from, to);
        DurableFolder.Flush(Path.GetDirectoryName(to)!);
    }
}
