using System.Globalization;

namespace VirtBackup.Hypervisors.State;

/// <summary>How much memory this host has to give.</summary>
internal static class HostMemory
{
    private const string File = "/proc/meminfo";

    /// <summary>Bytes that new programs can have without others losing theirs; null: it cannot be told.</summary>
    public static long? FindAvailable()
    {
        try
        {
            var line = System.IO.File.ReadLines(File).FirstOrDefault(line => line.StartsWith("MemAvailable:", StringComparison.Ordinal));
            return line?.Split(' ', StringSplitOptions.RemoveEmptyEntries) is [_, var kibibytes, ..] && long.TryParse(kibibytes, NumberStyles.None, CultureInfo.InvariantCulture, out var count) ? count << 10 : null;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            return null; // not of this system
        }
    }

    /// <summary>Why a machine does not fit; null: it does, or nobody can tell.</summary>
    public static string? Judge(long? needed) => needed is { } bytes && FindAvailable() is { } available && bytes > available
        ? $"It needs {bytes >> 20} MiB of memory, and this host has {available >> 20} MiB to give." : null;
}
