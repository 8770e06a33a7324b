using System.Diagnostics;
using System.Globalization;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CollectionScale.Measuring;

/// <summary>What the kernel counts of this process.</summary>
internal static class OwnProcess
{
    private const long SlackKiB = 4 << 10;

    public static long PeakKiB => StatusOf("VmHWM");

    /// <summary>Bytes that were read of files, from the device or from the system's memory.</summary>
    public static long FileBytesRead => NumberOf("/proc/self/io", "rchar:");

    public static TimeSpan ProcessorTime
    {
        get
        {
            using var process = Process.GetCurrentProcess();
            return process.TotalProcessorTime;
        }
    }

    /// <summary>Forgets the peak so far, and what is garbage by now.</summary>
    /// <exception cref="RefutedException">The kernel does not.</exception>
    public static void ResetPeak()
    {
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        File.WriteAllText("/proc/self/clear_refs", "5");
        var (peak, now) = (PeakKiB, StatusOf("VmRSS"));
        if (peak > now + SlackKiB) throw new RefutedException($"the peak could not be reset: it stays at {peak} KiB while {now} KiB are resident");
    }

    private static long StatusOf(string name) => NumberOf("/proc/self/status", name + ":");

    private static long NumberOf(string path, string name)
    {
        var line = File.ReadLines(path).First(line => line.StartsWith(name, StringComparison.Ordinal));
        return long.Parse(line[name.Length..].Replace("kB", "", StringComparison.Ordinal), CultureInfo.InvariantCulture);
    }
}
