using Microsoft.Win32.SafeHandles;
using System.Globalization;

namespace VirtBackup.Testing.Links;

/// <summary>A network interface of a site whose cable ends in this program. It goes with its handle.</summary>
internal sealed class TunDevice : IDisposable
{
    /// <summary>What opens TUN devices.</summary>
    public const string Clone = "/dev/net/tun";

    private TunDevice(SafeFileHandle handle) => Handle = handle;

    public SafeFileHandle Handle { get; }

    /// <param name="site">Where it is.</param>
    /// <param name="name">Free there, and at most 15 characters.</param>
    /// <param name="address">Its own, and that of the other end.</param>
    /// <param name="options">The rate is that of all that leaves through it.</param>
    public static async Task<TunDevice> CreateAsync(
        NetworkSite site, string name, (string Own, string Other) address, LinkOptions options, CancellationToken cancellationToken)
    {
        var device = new TunDevice(site.Inside(() => KernelCalls.OpenTun(name, options.LargePackets)));
        try
        {
            await site.RunAsync(["ip", "address", "add", address.Own, "peer", address.Other, "dev", name], cancellationToken);
            await site.RunAsync(["ip", "link", "set", name, "mtu", $"{options.PacketBytesMax}", "txqueuelen", "20000", "up"], cancellationToken);
            if (options.BitsPerSecond is { } rate)
            {
                // As a router in front of a slow line: a burst that holds the largest packet there can be, and a queue of 100 ms behind it.
                var burst = Math.Max(options.LargePackets ? 128 << 10 : 32 << 10, rate / 8 / 1000);
                await site.RunAsync(["tc", "qdisc", "add", "dev", name, "root", "tbf", "rate", string.Create(CultureInfo.InvariantCulture, $"{rate}bit"), "burst", $"{burst}", "latency", "100ms"], cancellationToken);
            }
            return device;
        }
        catch
        {
            device.Dispose();
            throw;
        }
    }

    public void Dispose() => Handle.Dispose();
}
