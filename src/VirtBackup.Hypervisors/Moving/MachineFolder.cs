using VirtBackup.Hypervisors.Images;

namespace VirtBackup.Hypervisors.Moving;

/// <summary>
/// The folder that a restore made for a machine. Others may have put files there since, or machines beneath it: only what is known to be
/// the machine's own is ever deleted.
/// </summary>
internal static class MachineFolder
{
    /// <summary>What may stand before a path, and behind it, in an option or in an attribute.</summary>
    private const string Before = ",:=\"' ", Behind = ",\"";

    /// <summary>Paths beneath the folder that a new machine's command line or definition names; none ends with a slash: a folder that they name may be anybody's.</summary>
    public static IEnumerable<string> FindPaths(string folder, IEnumerable<string> texts)
    {
        var start = folder.TrimEnd('/') + "/";
        foreach (var text in texts)
        {
            for (var at = text.IndexOf(start, StringComparison.Ordinal); at >= 0; at = text.IndexOf(start, at + start.Length, StringComparison.Ordinal))
            {
                var end = text.AsSpan(at).IndexOfAny(Behind);
                if ((at == 0 || Before.Contains(text[at - 1], StringComparison.Ordinal)) && (end < 0 ? text[at..] : text[at..(at + end)]).TrimEnd('/') is var path && path.Length > start.Length)
                {
                    yield return path;
                }
            }
        }
    }

    /// <summary>Whether a path is the folder, or lies beneath it.</summary>
    public static bool Holds(string folder, string path)
    {
        var whole = Path.GetFullPath(folder).TrimEnd('/');
        var full = Path.GetFullPath(path).TrimEnd('/');
        return full == whole || full.StartsWith(whole + "/", StringComparison.Ordinal);
    }

    /// <summary>The folder of a machine that came here, if it is there still.</summary>
    public static IReadOnlyList<string> ListLeft(AdoptedMachine? adopted) => adopted is not null && Directory.Exists(adopted.Folder) ? [adopted.Folder] : [];

    /// <summary>Deletes what is the machine's in the folder, and then the folder, if nothing else lies there.</summary>
    /// <param name="own">
    /// Files; and with a slash at their end, folders that go with all that is in them. A folder without a slash goes only when it is empty, and what lies
    /// elsewhere stays.
    /// </param>
    /// <param name="others">Files and folders of other machines: they stay, whatever <paramref name="own"/> says.</param>
    /// <returns>The folder; what was deleted in it, when it had to stay; nothing, when it was not there.</returns>
    public static IReadOnlyList<string> Delete(string folder, IEnumerable<string> own, IReadOnlyCollection<string> others)
    {
        if (!Directory.Exists(folder))
        {
            return [];
        }
        var removed = Clear(folder, own, others);
        if (Directory.EnumerateFileSystemEntries(folder).Any())
        {
            return removed;
        }
        Directory.Delete(folder);
        DurableFolder.Flush(Path.GetDirectoryName(folder.TrimEnd('/'))!);
        return [folder];
    }

    /// <summary>Deletes what is the machine's in the folder, as <see cref="Delete"/> does, and leaves the folder itself.</summary>
    /// <returns>What was deleted.</returns>
    public static IReadOnlyList<string> Clear(string folder, IEnumerable<string> own, IReadOnlyCollection<string> others)
    {
        var removed = new List<string>();
        var given = own.Where(static path => path.Length > 0).Select(Path.GetFullPath).ToList();
        var whole = given.Where(static path => path.EndsWith('/')).Select(static path => path.TrimEnd('/')).ToHashSet(StringComparer.Ordinal);
        foreach (var path in given.Select(static path => path.TrimEnd('/')).Distinct(StringComparer.Ordinal))
        {
            if (Holds(path, folder) || !Holds(folder, path) || others.Any(other => Holds(path, other)))
            {
                continue;
            }
            if (Directory.Exists(path))
            {
                if (whole.Contains(path) || !Directory.EnumerateFileSystemEntries(path).Any())
                {
                    Directory.Delete(path, recursive: true);
                    removed.Add(path);
                }
                continue;
            }
            // With what a write that broke off left beside it.
            foreach (var file in new[] { path, path + ImageWriter.PartialSuffix, InPlaceMark.PathOf(path) }.Where(File.Exists))
            {
                File.Delete(file);
                removed.Add(file);
            }
        }
        return removed;
    }
}
