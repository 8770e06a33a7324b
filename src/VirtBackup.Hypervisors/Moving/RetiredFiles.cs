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

    /// <summary>Gives the disks their new names, unless they had them once, and remembers that they have.</summary>
    /// <returns>The record as it is now.</returns>
    public static RetiredRecord Rename(RetiredRecord record, MovingRecords records)
    {
        if (record.Renamed || record.Deleted)
        {
            return record;
        }
        foreach (var file in record.Files.Where(static file => File.Exists(file.From) && !File.Exists(file.To)))
        {
            Move(file.From, file.To);
        }
        var renamed = record with { Renamed = true };
        records.Write(renamed);
        return renamed;
    }

    /// <summary>Disks that are there under their new names.</summary>
    public static IReadOnlyList<string> ListRenamed(RetiredRecord record) => [.. record.Files.Select(static file => file.To).Where(File.Exists)];

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

    /// <summary>Deletes disks under their new names alone: what lies under an old one may be somebody else's, or in use again.</summary>
    /// <returns>What was deleted.</returns>
    public static List<string> Delete(RetiredRecord record, MovingRecords records)
    {
        var removed = new List<string>();
        foreach (var path in ListRenamed(Rename(record, records)))
        {
            File.Delete(path);
            removed.Add(path);
        }
        return removed;
    }

    private static void Move(string from, string to)
    {
        File.Move(from, to);
        DurableFolder.Flush(Path.GetDirectoryName(to)!);
    }
}
