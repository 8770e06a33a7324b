using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.State;

namespace VirtBackup.Hypervisors;

/// <summary>What a restore that was killed has left in its folder.</summary>
public static class RestoreRemains
{
    /// <summary>
    /// Removes images that were not complete, the sockets of their servers and a running state, and the folder if it is empty then. Nothing
    /// that is complete, and nothing that anybody else put there, is touched.
    /// </summary>
    /// <returns>Paths of what was removed; empty: there was nothing.</returns>
    public static IReadOnlyList<string> Remove(string folder)
    {
        var removed = new List<string>();
        try
        {
            foreach (var path in Directory.EnumerateFiles(folder).Where(path => path.EndsWith(ImageWriter.PartialSuffix, StringComparison.Ordinal) || IsSocket(Path.GetFileName(path))).ToList())
            {
                File.Delete(path);
                removed.Add(path);
            }
            foreach (var state in Directory.EnumerateDirectories(folder).Where(static path => StateFiles.IsPlace(Path.GetFileName(path))).ToList())
            {
                Directory.Delete(state, recursive: true);
                removed.Add(state);
            }
            if (removed.Count > 0 && !Directory.EnumerateFileSystemEntries(folder).Any())
            {
                Directory.Delete(folder);
                removed.Add(folder);
            }
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            // Gone already, or not ours to remove any more.
        }
        return removed;
    }

    private static bool IsSocket(string name) => name.StartsWith("image-", StringComparison.Ordinal) && name.EndsWith(".sock", StringComparison.Ordinal);
}
