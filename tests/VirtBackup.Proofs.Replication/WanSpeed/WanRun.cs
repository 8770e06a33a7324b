using System.Diagnostics;
using System.Globalization;
using VirtBackup.Proofs.Replication.Sites;
using VirtBackup.Testing.Links;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Replication.WanSpeed;

/// <summary>Two sites, the link between them, and what took how long over it.</summary>
internal sealed class WanRun(ProofOptions options) : IAsyncDisposable
{
    public const string HalfRate = "half-rate";
    public const string ChangedDisk = "changed-disk";
    private const long LinkBitsPerSecond = 200_000_000;
    /// <summary>Where one small disk is measured once, on whatever else runs there, only gross slowness is a refutation.</summary>
    private double ShareMin => options.Short ? 0.7 : 0.9;
    private const double BareShareMin = 0.6;
    private const long UnchangedBytesMax = 100 << 10;
    private const long HugeDiskBytes = 1L << 40;
    private const int SpotsOfHugeDisk = 64;
    private readonly List<(int RoundTripMs, double Share)> _shares = [];
    private readonly List<string> _figures = [];
    private readonly List<IDisposable> _networks = [];
    private readonly List<PeerSite> _sites = [];
    private NetworkSite _near = null!;
    private NetworkSite _far = null!;
    private NetworkLink _link = null!;
    private Peering _peering = null!;

    private int[] RoundTripsMs => options.Short ? [40] : [0, 40, 150];

    private long DiskBytes => options.Short ? 96 << 20 : 512 << 20;

    private SourceMachine Disk => _peering.Source.Machines[0];

    private SourceMachine HugeDisk => _peering.Source.Machines[1];

    public string Figures => string.Join(' ', _figures);

    public async Task PrepareAsync(CancellationToken cancellationToken)
    {
        options.RequireSpace((options.Short ? 2L : 12L) << 30);
        await MeasureCeilingAsync(cancellationToken);
        (_near, _far) = (await AddSiteAsync("near", cancellationToken), await AddSiteAsync("far", cancellationToken));
        _link = await NetworkLink.CreateAsync(_near, _far, 1, new LinkOptions(LinkBitsPerSecond, LargePackets: true), cancellationToken: cancellationToken);
        _networks.Insert(0, _link);
        _sites.Add(await PeerSite.StartAsync(_near, static (installation, _) => [new("disk", installation.File("disk.raw")), new("huge", installation.File("huge.raw"))]));
        _sites.Add(await PeerSite.StartAsync(_far, static (_, _) => []));
        string[] limit = options.Sabotage == HalfRate ? ["--rate-limit", $"{LinkBitsPerSecond / 8 / 2}"] : [];
        _peering = await Peering.BeginAsync(_sites[1], _sites[0], _link.FirstAddress, offer: false, [.. Peering.OnlyWhenAsked, .. limit]);
    }

    /// <summary>The same bytes as a bare stream before and after, and by replication in between.</summary>
    public async Task CompareAsync(int trial, CancellationToken cancellationToken)
    {
        foreach (var milliseconds in RoundTripsMs)
        {
            cancellationToken.ThrowIfCancellationRequested();
            _link.Change(TimeSpan.FromMilliseconds(milliseconds), loss: 0);
            if (trial == options.StartTrial) Disk.Create(DiskBytes);
            Disk.Write(options.RandomOf(trial, milliseconds), 0, DiskBytes);
            var before = _peering.Source.MeasureRepository();
            await Disk.BackUpAsync(_peering.Source.Installation);
            var bytes = _peering.Source.MeasureRepository() - before;
            var trip = await LinkGauge.MeasureRoundTripAsync(_near, _far, _link, cancellationToken: cancellationToken);
            var first = await TlsTransfer.MeasureAsync(_near, _far, _link.SecondAddress, bytes, cancellationToken);
            var traffic = _link.Traffic;
            var clock = Stopwatch.StartNew();
            (await _peering.PullAsync()).EnsureSuccess();
            var pulled = clock.Elapsed.TotalSeconds;
            traffic = _link.Traffic - traffic;
            if (traffic.Payload < bytes) throw new RefutedException($"only {traffic.Payload} of {bytes} bytes have passed the link");
            var second = options.Short ? first : await TlsTransfer.MeasureAsync(_near, _far, _link.SecondAddress, bytes, cancellationToken);
            // Where the processors cannot fill the link, it is not what is measured.
            if (!options.Short && Rate(bytes, (first + second) / 2) * 1e6 < LinkBitsPerSecond * BareShareMin)
            {
                throw new RefutedException(string.Create(CultureInfo.InvariantCulture, $"a bare TLS stream reaches {Rate(bytes, (first + second) / 2):0.0} Mbit/s only: this machine is too busy to measure anything"));
            }
            var share = (first + second) / 2 / pulled;
            _shares.Add((milliseconds, share));
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"trial {trial}: round trip {trip.TotalMilliseconds:0.0} ms, {bytes >> 20} MiB: bare TLS {Rate(bytes, first):0.0} and {Rate(bytes, second):0.0} Mbit/s, replication {Rate(bytes, pulled):0.0} Mbit/s, {share:0.000} of it; {traffic.Payload} bytes in both directions, {traffic.Bytes} with headers"));
        }
    }

    /// <exception cref="RefutedException">Replication is too slow.</exception>
    public void Judge()
    {
        var slow = new List<string>();
        foreach (var group in _shares.GroupBy(static one => one.RoundTripMs))
        {
            var shares = group.Select(static one => one.Share).Order().ToArray();
            var (median, worst) = (shares[shares.Length / 2], shares[0]);
            _figures.Add(string.Create(CultureInfo.InvariantCulture, $"{group.Key}ms={median:0.000} (worst {worst:0.000} of {shares.Length})"));
            if (median < ShareMin) slow.Add(string.Create(CultureInfo.InvariantCulture, $"at {group.Key} ms replication reaches {median:0.000} of a bare TLS stream"));
        }
        if (slow.Count > 0) throw new RefutedException($"{string.Join("; ", slow)}; at least {ShareMin} is claimed");
    }

    /// <summary>A disk of 1 TiB, backed up and pulled twice.</summary>
    /// <exception cref="RefutedException">The second time cost too much.</exception>
    public async Task RequireUnchangedIsCheapAsync(CancellationToken cancellationToken)
    {
        _link.Change(default, loss: 0);
        HugeDisk.Create(HugeDiskBytes);
        var random = options.RandomOf(-1, 0);
        for (var i = 0; i < SpotsOfHugeDisk; i++) HugeDisk.Write(random, random.NextInt64(HugeDiskBytes >> 12) << 12, 64 << 10);
        await HugeDisk.BackUpAsync(_peering.Source.Installation, isHashed: false);
        (await _peering.PullAsync()).EnsureSuccess();
        if (options.Sabotage == ChangedDisk) HugeDisk.Write(random, HugeDiskBytes / 2, 1 << 20);
        var point = await HugeDisk.BackUpAsync(_peering.Source.Installation, isHashed: false);
        cancellationToken.ThrowIfCancellationRequested();
        var traffic = _link.Traffic;
        (await _peering.PullAsync()).EnsureSuccess();
        traffic = _link.Traffic - traffic;
        if (!(await _peering.Receiver.Installation.ListPointsAsync()).Contains(point)) throw new RefutedException("the point of the disk that has not changed has not come");
        _figures.Add(string.Create(CultureInfo.InvariantCulture, $"unchanged_1TiB={traffic.Bytes / 1024.0:0.0}KiB"));
        Console.WriteLine($"unchanged 1 TiB: {traffic.Bytes} bytes with all headers, {traffic.Payload} without, {traffic.Packets} packets");
        if (traffic.Bytes >= UnchangedBytesMax) throw new RefutedException($"an unchanged disk of 1 TiB cost {traffic.Bytes} bytes on the link; less than {UnchangedBytesMax} are claimed");
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var site in _sites) await site.DisposeAsync();
        foreach (var network in _networks) network.Dispose();
    }

    private async Task<NetworkSite> AddSiteAsync(string name, CancellationToken cancellationToken)
    {
        var site = await NetworkSite.CreateAsync(name, cancellationToken);
        _networks.Add(site);
        return site;
    }

    /// <summary>What the link could carry at most if it had no rate: far more than its rate, or what is measured is this program.</summary>
    private async Task MeasureCeilingAsync(CancellationToken cancellationToken)
    {
        using var first = await NetworkSite.CreateAsync("first", cancellationToken);
        using var second = await NetworkSite.CreateAsync("second", cancellationToken);
        using var link = await NetworkLink.CreateAsync(first, second, 1, new LinkOptions(LargePackets: true), cancellationToken: cancellationToken);
        var rate = await LinkGauge.MeasureRateAsync(first, second, link, TimeSpan.FromSeconds(1), cancellationToken);
        Console.WriteLine($"link: {LinkBitsPerSecond / 1e6:0} Mbit/s; without a rate it carries {rate / 1e6:0} Mbit/s; TCP with {(await first.RunAsync(["cat", "/proc/sys/net/ipv4/tcp_congestion_control"], cancellationToken)).Trim()}");
        _figures.Add($"ceiling={rate / 1e6:0}Mbit/s");
        if (rate < 2 * LinkBitsPerSecond) throw new RefutedException($"the link's own ceiling is {rate / 1e6:0} Mbit/s on this machine now: too little to measure anything at {LinkBitsPerSecond / 1e6:0} Mbit/s");
    }

    private static double Rate(long bytes, double seconds) => bytes * 8 / seconds / 1e6;
}
