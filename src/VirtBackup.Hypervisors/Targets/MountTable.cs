using System.Text;

namespace VirtBackup.Hypervisors.Targets;

/// <summary>A mounted file system. <paramref name="Device"/>: major and minor number, as in <c>8:1</c>.</summary>
internal sealed record Mount(string Device, string MountPoint, string Kind, string Source);

/// <summary>What is mounted where (proc(5), /proc/self/mountinfo).</summary>
internal static class MountTable
{
    private const string File = "/proc/self/mountinfo";

    /// <summary>The mount that a folder lies on; null where the system does not tell.</summary>
    public static Mount? Find(string folder)
    {
        try
        {
            return System.IO.File.Exists(File) ? Find(System.IO.File.ReadAllText(File), Resolved(folder)) : null;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>The last mount at the longest mount point above the folder: later ones cover earlier ones.</summary>
    internal static Mount? Find(string table, string folder)
    {
        Mount? found = null;
        foreach (var line in table.Split('\n'))
        {
            var fields = line.Split(' ');
            var separator = Array.IndexOf(fields, "-");
            if (separator < 6 || fields.Length < separator + 3)
            {
                continue;
            }
            var point = Unescaped(fields[4]);
            if (IsAbove(point, folder) && point.Length >= (found?.MountPoint.Length ?? 0))
            {
                found = new Mount(fields[2], point, fields[separator + 1], Unescaped(fields[separator + 2]));
            }
        }
        return found;
    }

    private static bool IsAbove(string point, string folder) =>
        point == "/" || folder == point || folder.StartsWith(point + "/", StringComparison.Ordinal);

    private static string Resolved(string folder)
    {
        for (var at = new DirectoryInfo(folder); at is not null; at = at.Parent)
        {
            if (at.ResolveLinkTarget(returnFinalTarget: true) is { } target)
            {
                var rest = Path.GetRelativePath(at.FullName, folder);
                return Resolved(rest == "." ? target.FullName : Path.Combine(target.FullName, rest));
            }
        }
        return Path.GetFullPath(folder);
    }

    // Blanks, tabs, line ends and backslashes are octal.
    private static string Unescaped(string text)
    {
        if (!text.Contains('\\', StringComparison.Ordinal))
        {
            return text;
        }
        var plain = new StringBuilder(text.Length);
        for (var i = 0; i < text.Length; i++)
        {
            if (text[i] == '\\' && i + 3 < text.Length && text.AsSpan(i + 1, 3).IndexOfAnyExceptInRange('0', '7') < 0)
            {
                plain.Append((char)(((text[i + 1] - '0') << 6) | ((text[i + 2] - '0') << 3) | (text[i + 3] - '0')));
                i += 3;
            }
            else
            {
                plain.Append(text[i]);
            }
        }
        return plain.ToString();
    }
}
