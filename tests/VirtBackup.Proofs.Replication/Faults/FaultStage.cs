using VirtBackup.Proofs.Replication.Sites;
using VirtBackup.Testing.Links;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Replication.Faults;

/// <summary>A way that recovery points go: who pulls from whom, and over which link.</summary>
internal sealed record Way(Peering Peering, NetworkLink Link);

/// <summary>
/// Two sites that pull from each other, or three of which the third pulls from the second what that pulled from the first. The seed
/// decides which, who dials whom, and what the links are like. The last site has no keys until the end.
/// </summary>
internal sealed class FaultStage : IAsyncDisposable
{
    private const int Purpose = 7;
    private const long DiskBytes = 64 << 20;
    private static readonly string[] Names = ["first", "second", "third"];
    private readonly List<PeerSite> _sites = [];
    private readonly List<NetworkSite> _networks = [];
    private readonly List<NetworkLink> _links = [];
    private readonly List<Way> _ways = [];
    private readonly HashSet<PeerSite> _unlocked = [];

    private FaultStage(int number) => Number = number;

    public int Number { get; }

    public IReadOnlyList<PeerSite> Sites => _sites;

    public IReadOnlyList<Way> Ways => _ways;

    public IReadOnlyList<NetworkLink> Links => _links;

    public IEnumerable<(PeerSite Site, SourceMachine Machine)> Machines => _sites.SelectMany(static site => site.Machines.Select(machine => (site, machine)));

    /// <summary>Sites that hold points of others.</summary>
    public IEnumerable<PeerSite> Replicas => _ways.Select(static way => way.Peering.Receiver).Distinct();

    /// <summary>Of a link, for people.</summary>
    public int NumberOf(NetworkLink link) => _links.IndexOf(link) + 1;

    /// <summary>Whether it may read what came from others.</summary>
    public bool MayUnlock(PeerSite site) => _sites.Count == 2 || site != _sites[^1];

    public static async Task<FaultStage> SetAsync(ProofOptions options, int number, CancellationToken cancellationToken)
    {
        var stage = new FaultStage(number);
        try
        {
            await stage.SetAsync(options.RandomOf(number, Purpose), options, cancellationToken);
            return stage;
        }
        catch
        {
            await stage.DisposeAsync();
            throw;
        }
    }

    /// <summary>Gives the last site the keys, and restores all that it lists, when nobody else can be reached.</summary>
    public async Task RequireAllAsync(FaultTally tally)
    {
        if (_sites.Count == 2) return;
        var last = _sites[^1];
        foreach (var link in _links) link.Cut();
        await UnlockAsync(last);
        var listed = await last.TryListAsync() ?? throw new RefutedException($"{last.Name} does not answer");
        foreach (var (_, machine) in Machines)
        {
            foreach (var point in machine.Points.Where(listed.Contains))
            {
                await last.RequireRestorableAsync(machine, point);
                tally.Restored++;
            }
        }
    }

    /// <summary>Gives a replica the keys of all whose points it has.</summary>
    public async Task UnlockAsync(PeerSite replica)
    {
        if (!_unlocked.Add(replica)) return;
        foreach (var origin in _sites.Where(site => site != replica && site.Machines.Count > 0)) await replica.RunAsync("peer", "unlock", "--kit", origin.Installation.Kit);
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var site in _sites) await site.DisposeAsync();
        foreach (var link in _links) link.Dispose();
        foreach (var network in _networks) network.Dispose();
    }

    private async Task SetAsync(Random random, ProofOptions options, CancellationToken cancellationToken)
    {
        options.RequireSpace(8L << 30);
        // Short runs get one set of sites: the two kinds take turns from seed to seed.
        var count = options.Short ? 2 + (int)(options.Seed % 2) : 2 + random.Next(2);
        var link = new LinkOptions(100_000_000, TimeSpan.FromMilliseconds(new[] { 0, 20, 80 }[random.Next(3)]), LargePackets: true);
        foreach (var name in Names.Take(count)) _networks.Add(await NetworkSite.CreateAsync(name, cancellationToken));
        for (var i = 1; i < count; i++) _links.Add(await NetworkLink.CreateAsync(_networks[i - 1], _networks[i], (byte)i, link, cancellationToken: cancellationToken));
        _sites.AddRange(await Task.WhenAll(_networks.Select((network, i) => StartAsync(network, hasMachines: i == 0 || count == 2, random.Next()))));
        var offers = new bool[2];
        for (var i = 1; i < count; i++) _ways.Add(await JoinAsync(_sites[i], _sites[i - 1], _links[i - 1], offers[i - 1] = random.Next(2) == 0));
        if (count == 2) _ways.Add(await JoinAsync(_sites[0], _sites[1], _links[0], offers[1] = random.Next(2) == 0));
        Console.WriteLine($"stage {Number}: {count} sites, round trip {link.RoundTrip.TotalMilliseconds:0} ms; "
            + string.Join(", ", _ways.Zip(offers, static (way, offer) => $"{way.Peering.Receiver.Name} from {way.Peering.Source.Name}, {(offer ? "which dials" : "dialling")}")));
    }

    private async Task<Way> JoinAsync(PeerSite receiver, PeerSite source, NetworkLink link, bool offer)
    {
        var called = offer ? receiver : source;
        return new Way(await Peering.BeginAsync(receiver, source, called == _sites[_links.IndexOf(link)] ? link.FirstAddress : link.SecondAddress, offer, Peering.OnlyWhenAsked), link);
    }

    private static Task<PeerSite> StartAsync(NetworkSite network, bool hasMachines, int seed) => PeerSite.StartAsync(network, (installation, _) =>
    {
        if (!hasMachines) return [];
        var machine = new SourceMachine($"{network.Name}-vm", installation.File("disk.raw"));
        machine.Create(DiskBytes);
        machine.Write(new Random(seed), 0, DiskBytes / 4);
        return [machine];
    });
}
