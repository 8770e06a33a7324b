using System.Diagnostics;
using System.Net;
using System.Net.Sockets;

namespace VirtBackup.Testing.Links;

/// <summary>Measures what a link does, with a bare TCP connection over it.</summary>
public static class LinkGauge
{
    private const int BlockBytes = 256 << 10;

    /// <summary>Bits that arrive per second at the second site, from the first byte's arrival on.</summary>
    public static async Task<double> MeasureRateAsync(NetworkSite first, NetworkSite second, NetworkLink link, TimeSpan duration, CancellationToken cancellationToken = default)
    {
        var (sender, receiver) = await ConnectAsync(first, second, link, cancellationToken);
        using (sender)
        using (receiver)
        {
            using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            var sending = SendAsync(sender, limit.Token);
            var block = new byte[BlockBytes];
            await receiver.ReceiveAsync(block, cancellationToken);
            var clock = Stopwatch.StartNew();
            long bytes = 0;
            while (clock.Elapsed < duration) bytes += await receiver.ReceiveAsync(block, cancellationToken);
            var seconds = clock.Elapsed.TotalSeconds;
            await limit.CancelAsync();
            await sending;
            return bytes * 8 / seconds;
        }
    }

    /// <summary>The shortest of some round trips of a byte.</summary>
    public static async Task<TimeSpan> MeasureRoundTripAsync(NetworkSite first, NetworkSite second, NetworkLink link, int trips = 5, CancellationToken cancellationToken = default)
    {
        var (near, far) = await ConnectAsync(first, second, link, cancellationToken);
        using (near)
        using (far)
        {
            var shortest = TimeSpan.MaxValue;
            var (request, answer) = (new byte[1], new byte[1]);
            for (; trips > 0; trips--)
            {
                var clock = Stopwatch.StartNew();
                await near.SendAsync(request, cancellationToken);
                await far.ReceiveAsync(answer, cancellationToken);
                await far.SendAsync(answer, cancellationToken);
                await near.ReceiveAsync(answer, cancellationToken);
                shortest = clock.Elapsed < shortest ? clock.Elapsed : shortest;
            }
            return shortest;
        }
    }

    /// <summary>A connection from the first site to the second.</summary>
    public static async Task<(Socket First, Socket Second)> ConnectAsync(NetworkSite first, NetworkSite second, NetworkLink link, CancellationToken cancellationToken = default)
    {
        using var listener = second.Listen(link.SecondAddress);
        var accepting = listener.AcceptAsync(cancellationToken).AsTask();
        var near = await first.ConnectAsync((IPEndPoint)listener.LocalEndPoint!, cancellationToken);
        var far = await accepting;
        far.NoDelay = true;
        return (near, far);
    }

    private static async Task SendAsync(Socket socket, CancellationToken cancellationToken)
    {
        var block = new byte[BlockBytes];
        try
        {
            while (true) await socket.SendAsync(block, cancellationToken);
        }
        catch (OperationCanceledException)
        {
            // Enough.
        }
    }
}
