using System.Net;

namespace VirtBackup.Testing.Links;

/// <summary>What a link is like.</summary>
/// <param name="BitsPerSecond">In each direction; null: as fast as this program forwards.</param>
/// <param name="RoundTrip">Of a packet and its answer, beyond what forwarding takes.</param>
/// <param name="Loss">Share of the packets that are lost by chance, [0, 1].</param>
/// <param name="PacketBytesMax">The largest packet.</param>
/// <param name="LargePackets">
/// Segments of TCP pass many at a time, as network cards of servers do it: ten times as fast. They are counted as if each had passed
/// by itself, but what is lost by chance is lost as one: not for links that lose.
/// </param>
public sealed record LinkOptions(long? BitsPerSecond = null, TimeSpan RoundTrip = default, double Loss = 0, int PacketBytesMax = 1500, bool LargePackets = false);

/// <summary>
/// A cable between two sites. The kernel shapes the rate in front of each end; delay, loss and cuts are this program's, which carries
/// the packets and counts them. Members may be called concurrently.
/// </summary>
public sealed class NetworkLink : IDisposable
{
    private readonly TunDevice[] _ends;
    private readonly PacketLane[] _lanes;
    private volatile LinkState _state;

    private NetworkLink(TunDevice[] ends, byte number, LinkOptions options, int seed)
    {
        _ends = ends;
        _state = new LinkState(options.RoundTrip / 2, options.Loss, IsCut: false);
        (FirstAddress, SecondAddress) = (IPAddress.Parse(AddressOf(number, 1)), IPAddress.Parse(AddressOf(number, 2)));
        _lanes = [new(ends[0], ends[1], () => _state, new Random(seed)), new(ends[1], ends[0], () => _state, new Random(~seed))];
    }

    /// <summary>That of the first site on this link.</summary>
    public IPAddress FirstAddress { get; }

    /// <summary>That of the second site on this link.</summary>
    public IPAddress SecondAddress { get; }

    /// <summary>From the first site to the second.</summary>
    public LinkTraffic Forth => _lanes[0].Traffic;

    /// <summary>From the second site to the first.</summary>
    public LinkTraffic Back => _lanes[1].Traffic;

    /// <summary>Both directions.</summary>
    public LinkTraffic Traffic => Forth + Back;

    public bool IsCut => _state.IsCut;

    /// <param name="number">Of this link: each link of a site has another.</param>
    /// <param name="seed">Decides which packets are lost.</param>
    public static async Task<NetworkLink> CreateAsync(
        NetworkSite first, NetworkSite second, byte number, LinkOptions options, int seed = 0, CancellationToken cancellationToken = default)
    {
        var ends = new List<TunDevice>();
        try
        {
            foreach (var (site, own, other) in new[] { (first, 1, 2), (second, 2, 1) })
            {
                ends.Add(await TunDevice.CreateAsync(site, $"link{number}", (AddressOf(number, own), AddressOf(number, other)), options, cancellationToken));
            }
            var link = new NetworkLink([.. ends], number, options, seed);
            first.Add(link.FirstAddress);
            second.Add(link.SecondAddress);
            return link;
        }
        catch
        {
            ends.ForEach(static end => end.Dispose());
            throw;
        }
    }

    /// <summary>From now on nothing passes; who sends is not told.</summary>
    public void Cut() => _state = _state with { IsCut = true };

    public void Mend() => _state = _state with { IsCut = false };

    /// <summary>Packets that enter from now on meet this.</summary>
    public void Change(TimeSpan roundTrip, double loss) => _state = _state with { Delay = roundTrip / 2, Loss = loss };

    public void Dispose()
    {
        foreach (var lane in _lanes) lane.Dispose();
        foreach (var end in _ends) end.Dispose();
    }

    private static string AddressOf(byte number, int end) => $"10.89.{number}.{end}";
}
