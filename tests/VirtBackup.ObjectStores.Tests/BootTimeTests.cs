using System.Globalization;

namespace VirtBackup.ObjectStores.Tests;

/// <summary>Time that goes on while the host sleeps.</summary>
public sealed class BootTimeTests
{
    [Fact]
    public void It_is_the_hosts_time_since_its_boot()
    {
        // The kernel tells it by the clock that counts sleep.
        var told = double.Parse(File.ReadAllText("/proc/uptime").Split(' ')[0], CultureInfo.InvariantCulture);
        var time = BootTime.Instance;
        var seconds = time.GetTimestamp() / (double)time.TimestampFrequency;
        Assert.InRange(seconds, told - 0.1, told + 10);
        Assert.InRange(time.GetElapsedTime(time.GetTimestamp()), TimeSpan.Zero, TimeSpan.FromSeconds(10));
    }

    [Fact]
    public async Task It_goes_on_with_the_systems()
    {
        var (time, system) = (BootTime.Instance, TimeProvider.System);
        var (from, systemFrom) = (time.GetTimestamp(), system.GetTimestamp());
        await Task.Delay(50, CancellationToken.None);
        var passed = system.GetElapsedTime(systemFrom);
        Assert.InRange(time.GetElapsedTime(from), passed - TimeSpan.FromMilliseconds(5), passed + TimeSpan.FromSeconds(10));
    }
}
