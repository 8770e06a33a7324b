using System.Globalization;

namespace VirtBackup.Proofs.ConstantMemory;

/// <summary>Reads /proc. What ends meanwhile is told as null.</summary>
internal static class ProcessTable
{
    // Places in StatOf: fields 4 and 22 of proc(5), which counts from 1 and the name as field 2.
    public const int ParentField = 1;
    public const int StartTimeField = 19;

    /// <summary>The fields of a process behind its name.</summary>
    public static string[]? StatOf(int pid) => Read($"/proc/{pid}/stat") is { } stat ? stat[(stat.LastIndexOf(')') + 2)..].Split(' ') : null;

    /// <summary>A line of its status, such as VmHWM, in KiB.</summary>
    public static long? KiBOf(int pid, string name)
    {
        var line = Read($"/proc/{pid}/status")?.Split('\n').FirstOrDefault(line => line.StartsWith(name + ":", StringComparison.Ordinal));
        return line is null ? null : long.Parse(line[(name.Length + 1)..].Replace("kB", "", StringComparison.Ordinal), CultureInfo.InvariantCulture);
    }

    /// <summary>The program that it runs.</summary>
    public static string? ProgramOf(int pid)
    {
        try
        {
            return File.ResolveLinkTarget($"/proc/{pid}/exe", returnFinalTarget: false)?.FullName;
        }
        catch (Exception gone) when (gone is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>The processes that these started and that are still there.</summary>
    public static IEnumerable<(int Child, int Parent)> ChildrenOf(params int[] parents)
    {
        foreach (var folder in Directory.EnumerateDirectories("/proc"))
        {
            if (int.TryParse(Path.GetFileName(folder), NumberStyles.None, CultureInfo.InvariantCulture, out var child) && StatOf(child) is { } stat
                && int.Parse(stat[ParentField], CultureInfo.InvariantCulture) is var parent && parents.Contains(parent))
            {
                yield return (child, parent);
            }
        }
    }

    private static string? Read(string path)
    {
        try
        {
            return File.ReadAllText(path);
        }
        catch (Exception gone) when (gone is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
