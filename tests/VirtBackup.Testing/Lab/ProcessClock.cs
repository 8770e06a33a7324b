using System.Globalization;

namespace VirtBackup.Testing.Lab;

/// <summary>What the kernel knows of processes.</summary>
public static class ProcessClock
{
    /// <summary>Two clocks are read, one of them in ticks of 10 ms.</summary>
    public const double ErrorSeconds = 0.05;

    private const double TicksPerSecond = 100;

    /// <summary>When the process began, in seconds since 1970.</summary>
    public static double BegunAt(int pid)
    {
        // The name may hold blanks and parentheses; 19 fields behind its end is the start since the boot, in ticks (proc(5)).
        var ticks = double.Parse(File.ReadAllText($"/proc/{pid}/stat").Split(") ")[^1].Split(' ')[19], CultureInfo.InvariantCulture);
        var up = double.Parse(File.ReadAllText("/proc/uptime").Split(' ')[0], CultureInfo.InvariantCulture);
        return (DateTimeOffset.UtcNow.ToUnixTimeMilliseconds() / 1e3) - up + (ticks / TicksPerSecond);
    }
}
