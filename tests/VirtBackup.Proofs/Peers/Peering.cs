using VirtBackup.Core;
using VirtBackup.Format.Records;
using VirtBackup.Proofs.CrashSimulation;
using VirtBackup.Proofs.Installation;
using VirtBackup.Proofs.Simulation;
using VirtBackup.Repository;
using VirtBackup.Repository.Replication;
using VirtBackup.Testing.Proofs;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Proofs.Peers;

/// <summary>
/// A peer of the site, and what it does beside the site's deeds: it pulls over a connection that is cut, loses its own power, forgets,
/// collects. In the end it has all that the site has, and a third repository takes everything from it. Draws from a chance of
/// its own, so that the same seed does the same at the site.
/// </summary>
internal sealed class Peering : IAsyncDisposable
{
    private const int PeerOneIn = 2;
    private const int ReplicateOneIn = 2;
    private const int CutOneIn = 3;
    private const int CutAfterLog2Max = 8;
    private const int CrashAfterLog2Max = 8;
    private const int ChainOneIn = 4;
    private const int CleanOneIn = 3;
    private const int HarmOneIn = 3;
    private const int WayBackOneIn = 2;

    private readonly Site _site;
    private readonly Random _random;
    private readonly Coverage _coverage;
    private readonly Peer _peer;
    private readonly Func<Peer> _createAnother;
    private int? _crashAfter;
    private bool _isBusy;

    private Peering(Site site, Random random, Coverage coverage, Func<Peer> create)
    {
        (_site, _random, _coverage, _createAnother) = (site, random, coverage, create);
        _peer = create();
        _crashAfter = random.Next(3) > 0 ? random.Next(1 << random.Next(1, CrashAfterLog2Max + 1)) : null;
    }

    /// <summary>The site's peer; null: this seed has none.</summary>
    public static Peering? Draw(Site site, IReadOnlyList<Host> hosts, ProvenObjects proven, Random random, string? defect, Coverage coverage)
    {
        // A defect of a peer needs one.
        if (random.Next(PeerOneIn) != 0 && defect?.StartsWith("peer-", StringComparison.Ordinal) != true)
        {
            return null;
        }
        var entropy = new SeededEntropy(random.Next());
        var packBytes = random.Next(4, 40) << 10;
        return new Peering(site, random, coverage, () => new Peer(site, hosts, proven, entropy, packBytes, coverage)
        {
            AlterIndex = Defect.OfPeerIndex(defect), AlterStore = store => Defect.OfPeer(defect, store),
        });
    }

    public Task InitializeAsync() => _peer.InitializeAsync();

    /// <summary>What the peer does in one step of the site; null: nothing.</summary>
    public Task? Begin() => !_isBusy && _random.Next(ReplicateOneIn) == 0 ? RunAsync() : null;

    /// <summary>In fair weather the peer gets all that the site has, and whoever comes after it gets it from the peer.</summary>
    public async Task RequireWorkingAsync()
    {
        Stage.Enter("replicate-all");
        _crashAfter = null;
        _peer.Power.FailsAt = null;
        await RequireAllAsync(_peer, _site.Repository, _site.Connect()!.Value.Power);
        if (_random.Next(ChainOneIn) == 0)
        {
            await using var third = _createAnother();
            await third.InitializeAsync();
            Stage.Enter("replicate-on");
            await RequireAllAsync(third, _peer.Repository, _peer.Power);
            _coverage.Count("replicated:chains");
        }
        if (_random.Next(HarmOneIn) == 0)
        {
            Stage.Enter("peer-heal");
            var here = (await _site.Repository.ListPointsAsync(null, CancellationToken.None)).Select(static point => point.Point).ToHashSet();
            await _peer.HarmAsync(_random, here, () => PullAllAsync(_peer, _site.Repository, new PeerSource(_site.Repository, _site.Connect()!.Value.Power, null)));
        }
    }

    /// <summary>What the peer has of a record that is lost at the site, as product peers are asked; null: nothing.</summary>
    public async ValueTask<byte[]?> FindRecordAsync(RecordKind kind, Id32 id, Id16 scope)
    {
        var record = await _peer.Repository.Serving.FindRecordAsync(kind, id, scope, CancellationToken.None);
        _coverage.Count(record is null ? "replicated:records-not-there-to-heal" : "replicated:records-to-heal");
        return record;
    }

    /// <summary>Points that the site has let go come back from the peer, whole.</summary>
    /// <param name="restart">Starts the site's controller anew; gives its store.</param>
    public async Task RequireWayBackAsync(Func<Task<SimulatedStore>> restart)
    {
        if (_random.Next(WayBackOneIn) != 0)
        {
            return;
        }
        Stage.Enter("replicate-back");
        var store = await restart();
        var here = (await _site.Repository.ListPointsAsync(null, CancellationToken.None)).Select(static point => point.Point).ToHashSet();
        var gone = (await _peer.Repository.ListPointsAsync(null, CancellationToken.None)).Where(point => !here.Contains(point.Point)).ToList();
        var source = new PeerSource(_peer.Repository, _peer.Power, null);
        foreach (var point in gone)
        {
            var report = await _site.Repository.PullAsync(source, new ReplicaWish(point.Vm, point.Point), _peer.Options, CancellationToken.None);
            _coverage.Count("replicated:points-back");
            _coverage.Count("replicated:records-back", report.Done.Records);
        }
        var census = await Census.TakeAsync(store);
        foreach (var point in gone)
        {
            _peer.RequireWhole(census, census.Points.GetValueOrDefault(point.Point) ?? throw new RefutedException($"Point {point.Point} was pulled back, and is not there."));
        }
        var known = await _site.Repository.ListPointsAsync(null, CancellationToken.None);
        if (!census.Points.Keys.Order().SequenceEqual(known.Where(static point => point.IsComplete).Select(static point => point.Point).Order()))
        {
            throw new RefutedException("After points were pulled back the index knows other whole points than the store holds.");
        }
        References.Of(census).RequireCounted(await _site.DumpAsync(), exactly: false);
    }

    /// <summary>What the peer does not need, it lets go.</summary>
    public async Task RequireCleanAsync(TimeSpan longestSafety, TimeSpan day, int collections)
    {
        if (_random.Next(CleanOneIn) != 0)
        {
            return;
        }
        Stage.Enter("peer-collect");
        foreach (var point in await _peer.Repository.ListPointsAsync(null, CancellationToken.None))
        {
            if (_random.Next(2) == 0)
            {
                await _peer.ForgetAsync(point.Point);
            }
        }
        await _peer.RequireCleanAsync(longestSafety, day, collections);
    }

    public ValueTask DisposeAsync() => _peer.DisposeAsync();

    private async Task RunAsync()
    {
        Stage.Enter("replicate");
        _isBusy = true;
        _coverage.Count("begun:replicate");
        if (_crashAfter is { } operations)
        {
            _peer.Arm(operations);
            _crashAfter = null;
        }
        var isDone = false;
        try
        {
            isDone = await TryAsync();
        }
        catch (Exception failure) when (_peer.Power.IsOff && failure is SimulatedCrashException or FaultException)
        {
            // It goes on when the power is back.
        }
        _coverage.Count(isDone ? "done:replicate" : "failed:replicate");
        if (_peer.Power.IsOff)
        {
            Stage.Enter("peer-start-up");
            await _peer.SurviveAsync(_random.Next(5) == 0 ? null : _random.Next(), loseIndex: _random.Next(4) == 0);
        }
        await _peer.RequireSoundAsync();
        _isBusy = false;
    }

    /// <summary>False: the connection was cut, or the power failed there.</summary>
    private async Task<bool> TryAsync()
    {
        if (_site.Connect() is not (_, var power))
        {
            return false;
        }
        var source = new PeerSource(_site.Repository, power, _random.Next(CutOneIn) == 0 ? _random.Next(1 << _random.Next(1, CutAfterLog2Max + 1)) : null);
        try
        {
            await PullAllAsync(_peer, _site.Repository, source);
        }
        catch (SimulatedCrashException) when (power.IsOff && !_peer.Power.IsOff)
        {
            return false;
        }
        catch (FaultException gone) when (gone.Reason == FaultReason.Unavailable && (source.IsCut || power.IsOff) && !_peer.Power.IsOff)
        {
            return false;
        }
        if (_random.Next(3) == 0 && await DrawVisibleAsync() is { } point)
        {
            await _peer.ForgetAsync(point);
        }
        if (_random.Next(3) == 0)
        {
            await _peer.CollectAsync();
        }
        return true;
    }

    private static async Task PullAllAsync(Peer peer, BackupRepository there, PeerSource source)
    {
        var forgotten = (await peer.Repository.ListForgottenAsync(CancellationToken.None)).Select(static row => row.Point).ToHashSet();
        foreach (var point in (await there.Serving.ListAsync(null, default, CancellationToken.None)).Points.Where(point => !forgotten.Contains(point.Point)))
        {
            try
            {
                await peer.PullAsync(source, point.Vm, point.Point);
            }
            catch (FaultException late) when (late.Reason == FaultReason.NotFound)
            {
                // It was forgotten there meanwhile.
            }
        }
    }

    private async Task<Id16?> DrawVisibleAsync()
    {
        var points = await _peer.Repository.ListPointsAsync(null, CancellationToken.None);
        return points.Count == 0 ? null : points[_random.Next(points.Count)].Point;
    }

    private static async Task RequireAllAsync(Peer peer, BackupRepository there, Power power)
    {
        foreach (var forgotten in await peer.Repository.ListForgottenAsync(CancellationToken.None))
        {
            await peer.RecallAsync(forgotten.Vm, forgotten.Point);
        }
        await PullAllAsync(peer, there, new PeerSource(there, power, null));
        var visible = (await peer.Repository.ListPointsAsync(null, CancellationToken.None)).Select(static point => point.Point).ToHashSet();
        foreach (var point in await there.ListPointsAsync(null, CancellationToken.None))
        {
            if (!visible.Contains(point.Point))
            {
                throw new RefutedException($"In fair weather the peer does not get point {point.Point}.");
            }
        }
        await peer.RequireSoundAsync();
    }
}
