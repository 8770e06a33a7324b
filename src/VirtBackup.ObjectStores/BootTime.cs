namespace VirtBackup.ObjectStores;

/// <summary>The system's time, with timestamps that go on while the host sleeps, as those of .NET do not on Linux.</summary>
public sealed class BootTime : TimeProvider
{
    private const long NanosecondsPerSecond = 1_000_000_000;

    private BootTime()
    {
    }

    public static BootTime Instance { get; } = new();

    public override long TimestampFrequency => OperatingSystem.IsLinux() ? NanosecondsPerSecond : base.TimestampFrequency;

    public override long GetTimestamp()
    {
        if (!OperatingSystem.IsLinux())
        {
            return base.GetTimestamp();
        }
        // It cannot fail: every kernel that .NET runs on has this clock.
        _ = LinuxCalls.ReadClock(LinuxCalls.BootClock, out var time);
        return (time.Seconds * NanosecondsPerSecond) + time.Nanoseconds;
    }
}
