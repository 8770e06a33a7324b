namespace VirtBackup.Hypervisors.Images;

/// <summary>
/// File names for the disks of one restore. A disk's name comes from a manifest: it never becomes a path, and no two disks
/// get the same file. Not safe for concurrent use.
/// </summary>
internal sealed class ImageFileNames
{
    private readonly HashSet<string> taken = new(StringComparer.Ordinal);

    /// <summary>A file name for the disk, without an ending.</summary>
    public string Add(string disk)
    {
        var stem = string.Concat(disk.Select(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.' ? c : '_')).TrimStart('.');
        var file = stem;
        for (var i = 2; file.Length == 0 || !taken.Add(file); i++)
        {
            file = $"{stem}-{i}";
        }
        return file;
    }
}
