using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Links;

namespace VirtBackup.Lab.Tests;

/// <summary>Links between sites do what they are told: rate, delay, loss and cuts. They need root and /dev/net/tun.</summary>
public sealed class LinkTests
{
    private static readonly TimeSpan Second = TimeSpan.FromSeconds(1);

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Rate_is_what_was_asked_for(bool large)
    {
        await using var pair = await PairAsync(new LinkOptions(BitsPerSecond: 200_000_000, LargePackets: large));
        var rate = await LinkGauge.MeasureRateAsync(pair.First, pair.Second, pair.Link, 2 * Second, Token);
        // Headers are part of the 200 Mbit/s. How much of them a busy machine reaches is not the link's doing.
        Assert.InRange(rate, 60e6, 200e6);
    }

    [Fact]
    public async Task Unshaped_link_is_much_faster_than_a_shaped_one()
    {
        await using var pair = await PairAsync(new LinkOptions(LargePackets: true));
        var rate = await LinkGauge.MeasureRateAsync(pair.First, pair.Second, pair.Link, Second, Token);
        TestContext.Current.SendDiagnosticMessage($"The forwarder carries {rate / 1e6:0} Mbit/s");
        Assert.InRange(rate, 300e6, double.MaxValue);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(40)]
    [InlineData(150)]
    public async Task Round_trip_is_what_was_asked_for(int milliseconds)
    {
        await using var pair = await PairAsync(new LinkOptions(RoundTrip: TimeSpan.FromMilliseconds(milliseconds)));
        var trip = await LinkGauge.MeasureRoundTripAsync(pair.First, pair.Second, pair.Link, cancellationToken: Token);
        Assert.InRange(trip.TotalMilliseconds, milliseconds, milliseconds + 20);
    }

    [Fact]
    public async Task Lost_packets_are_counted_and_sent_again()
    {
        await using var pair = await PairAsync(new LinkOptions(BitsPerSecond: 100_000_000, Loss: 0.02));
        var (near, far) = await LinkGauge.ConnectAsync(pair.First, pair.Second, pair.Link, Token);
        using (near)
        using (far)
        {
            var sent = new byte[4 << 20];
            new Random(1).NextBytes(sent);
            var sending = near.SendAsync(sent, Token).AsTask();
            Assert.Equal(sent, await ReceiveAsync(far, sent.Length));
            await sending;
            Assert.InRange((double)pair.Link.Forth.Lost / pair.Link.Forth.Packets, 0.01, 0.04);
            Assert.InRange(pair.Link.Forth.Payload, sent.Length * 1.005, sent.Length * 1.2);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task What_is_counted_is_what_programs_sent(bool large)
    {
        await using var pair = await PairAsync(new LinkOptions(LargePackets: large));
        var (near, far) = await LinkGauge.ConnectAsync(pair.First, pair.Second, pair.Link, Token);
        using (near)
        using (far)
        {
            var sending = near.SendAsync(new byte[1 << 20], Token);
            await ReceiveAsync(far, 1 << 20);
            await sending;
            await far.SendAsync(new byte[1000], Token);
            await ReceiveAsync(near, 1000);
        }
        Assert.InRange(pair.Link.Forth.Packets, 700, 1000);
        Assert.InRange(pair.Link.Forth.Payload, 1 << 20, (1 << 20) * 1.01);
        Assert.InRange(pair.Link.Forth.Bytes, (1 << 20) * 1.03, (1 << 20) * 1.06);
        Assert.Equal(1000, pair.Link.Back.Payload);
    }

    [Fact]
    public async Task Cut_stops_traffic_and_mending_lets_it_go_on()
    {
        await using var pair = await PairAsync(new LinkOptions(RoundTrip: TimeSpan.FromMilliseconds(10)));
        var (near, far) = await LinkGauge.ConnectAsync(pair.First, pair.Second, pair.Link, Token);
        using (near)
        using (far)
        {
            pair.Link.Cut();
            await Task.Delay(50, Token);
            var before = pair.Link.Traffic;
            await near.SendAsync(new byte[1000], Token);
            var arriving = ReceiveAsync(far, 1000);
            await Assert.ThrowsAsync<TimeoutException>(() => arriving.WaitAsync(Second / 2, Token));
            Assert.Equal(before, pair.Link.Traffic);
            pair.Link.Mend();
            Assert.Equal(1000, (await arriving.WaitAsync(10 * Second, Token)).Length);
        }
    }

    [Fact]
    public async Task Site_runs_programs_and_reaches_its_neighbours_alone()
    {
        await using var pair = await PairAsync(new LinkOptions());
        using var third = await NetworkSite.CreateAsync("third", Token);
        using var onward = await NetworkLink.CreateAsync(pair.Second, third, 2, new LinkOptions(), cancellationToken: Token);
        Assert.Contains("10.89.2.2", await third.RunAsync(["ip", "address"], Token), StringComparison.Ordinal);
        Assert.Equal(["link2", "lo"], third.Inside(Interfaces));
        Assert.DoesNotContain(Interfaces(), static name => name.StartsWith("link", StringComparison.Ordinal));
        using var listener = third.Listen(IPAddress.Any);
        var port = ((IPEndPoint)listener.LocalEndPoint!).Port;
        using (await pair.Second.ConnectAsync(new IPEndPoint(onward.SecondAddress, port), Token))
        {
            await Assert.ThrowsAsync<SocketException>(() => pair.First.ConnectAsync(new IPEndPoint(onward.SecondAddress, port), Token));
        }
    }

    [Fact]
    public async Task Door_leads_to_a_port_of_the_site()
    {
        using var site = await NetworkSite.CreateAsync("site", Token);
        var port = LabPorts.Take();
        await using var door = new SiteDoor(site, port);
        using (var early = await ConnectAsync(port))
        {
            // Nobody is inside yet.
            Assert.Equal(0, await early.ReceiveAsync(new byte[1], Token));
        }
        using var inside = site.CreateSocket();
        inside.Bind(new IPEndPoint(IPAddress.Loopback, port));
        inside.Listen();
        using var outside = await ConnectAsync(port);
        using var accepted = await inside.AcceptAsync(Token);
        await outside.SendAsync(new byte[300_000], Token);
        outside.Shutdown(SocketShutdown.Send);
        Assert.Equal(300_000, (await ReceiveAsync(accepted, 300_000)).Length);
        Assert.Equal(0, await accepted.ReceiveAsync(new byte[1], Token));
        await accepted.SendAsync(new byte[5], Token);
        Assert.Equal(5, (await ReceiveAsync(outside, 5)).Length);
    }

    [Fact]
    public async Task Nothing_is_left_of_a_link_whose_program_was_killed()
    {
        await using var holder = BackgroundProc.Start(Environment.ProcessPath!, [], environment: new Dictionary<string, string?> { [LinkHolder.Variable] = "1" });
        var space = (await holder.WaitForLineAsync("held: ", cancellationToken: Token))["held: ".Length..];
        Assert.NotEqual(space, LinkHolder.Space());
        Assert.Contains(space, await SpacesAsync(), StringComparison.Ordinal);
        await holder.KillAsync(Token);
        Assert.DoesNotContain(space, await SpacesAsync(), StringComparison.Ordinal);
    }

    /// <summary>All network namespaces that a process is in or has a handle of, or that have a name.</summary>
    private static async Task<string> SpacesAsync() =>
        (await Proc.ShellAsync("ls -l /proc/*/ns/net /proc/*/fd 2>&1; for name in /run/netns/*; do [ -e $name ] && echo net:[$(stat -c %i $name)]; done", cancellationToken: Token)).Stdout;

    private static string[] Interfaces() => [.. NetworkInterface.GetAllNetworkInterfaces().Select(static face => face.Name).Order(StringComparer.Ordinal)];

    private static async Task<Socket> ConnectAsync(int port)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync(IPAddress.Loopback, port, Token);
        return socket;
    }

    private static async Task<byte[]> ReceiveAsync(Socket socket, int count)
    {
        var bytes = new byte[count];
        for (var at = 0; at < count;)
        {
            var read = await socket.ReceiveAsync(bytes.AsMemory(at), Token);
            if (read == 0) throw new EndOfStreamException();
            at += read;
        }
        return bytes;
    }

    private static async Task<Pair> PairAsync(LinkOptions options)
    {
        var (first, second) = (await NetworkSite.CreateAsync("first", Token), await NetworkSite.CreateAsync("second", Token));
        return new Pair(first, second, await NetworkLink.CreateAsync(first, second, 1, options, seed: 1, cancellationToken: Token));
    }

    private sealed record Pair(NetworkSite First, NetworkSite Second, NetworkLink Link) : IAsyncDisposable
    {
        public ValueTask DisposeAsync()
        {
            Link.Dispose();
            First.Dispose();
            Second.Dispose();
            return ValueTask.CompletedTask;
        }
    }
}
