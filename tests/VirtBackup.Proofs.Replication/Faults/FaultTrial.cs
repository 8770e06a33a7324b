using System.Diagnostics;
using VirtBackup.Proofs.Replication.Sites;
using VirtBackup.Testing.Links;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Replication.Faults;

/// <summary>Some backups, pulls of them with faults meanwhile, and then a look at everything.</summary>
internal sealed class FaultTrial(FaultStage stage, ProofOptions options, int trial, FaultTally tally)
{
    public const string SpoiledPack = "spoiled-pack";
    public const string ForgottenPoint = "forgotten-point";
    public const string SentTwice = "sent-twice";
    public const string OtherDisk = "other-disk";

    private const double ShareMax = 1.02;
    private const long ExcusedBytesOfFault = 16 << 20;
    /// <summary>What a further pull may cost, which finds little or nothing: others wait for it, and ask again.</summary>
    private const long BytesOfFurtherPull = 32 << 10;
    private const int FaultsMax = 3;
    private static readonly TimeSpan SettleLimit = TimeSpan.FromSeconds(120);
    private static readonly TimeSpan PauseBetweenTries = TimeSpan.FromMilliseconds(200);
    private readonly Random _random = options.RandomOf(trial, 0);
    private readonly List<(SourceMachine Machine, string Point)> _new = [];
    private readonly Dictionary<NetworkLink, int> _faultsOf = stage.Links.ToDictionary(static link => link, static _ => 0);
    private readonly Dictionary<NetworkLink, int> _furtherPullsOf = stage.Links.ToDictionary(static link => link, static _ => 0);
    private readonly HashSet<Way> _pulling = [];
    private readonly List<string> _story = [];

    public async Task RunAsync(CancellationToken cancellationToken)
    {
        var missing = await BackUpAsync();
        var before = stage.Links.ToDictionary(static link => link, static link => link.Traffic);
        var watches = stage.Replicas.Select(static replica => new ReplicaWatch(replica)).ToList();
        using var over = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var watching = watches.Select(watch => watch.RunAsync(over.Token)).ToList();
        var faults = StrikeAsync(cancellationToken);
        await Task.WhenAll(stage.Ways.Select(way => ConvergeAsync(way, faults, cancellationToken)).Append(faults));
        await over.CancelAsync();
        await Task.WhenAll(watching);
        tally.Verified += watches.Sum(static watch => watch.Verified);
        if (options.Sabotage == SentTwice) await SendAgainAsync(missing, cancellationToken);
        RequireLittleTravelled(missing, before);
        await PlantAsync();
        await LookAsync();
        Console.WriteLine($"trial {trial}: {missing >> 10} KiB missing; {(_story.Count == 0 ? "no fault" : string.Join(", ", _story))}");
    }

    /// <returns>Bytes that the repositories of the sources grew by.</returns>
    private async Task<long> BackUpAsync()
    {
        var before = stage.Machines.Sum(static one => one.Site.MeasureRepository());
        foreach (var (site, machine) in stage.Machines)
        {
            var points = _random.Next(1, 3);
            for (; points > 0; points--)
            {
                machine.Write(_random, _random.NextInt64(32 << 20), _random.NextInt64(4 << 20, (options.Short ? 12 : 24) << 20));
                _new.Add((machine, await machine.BackUpAsync(site.Installation)));
            }
        }
        return stage.Machines.Sum(static one => one.Site.MeasureRepository()) - before;
    }

    private async Task StrikeAsync(CancellationToken cancellationToken)
    {
        var faults = options.Sabotage == SentTwice ? 0 : _random.Next(options.Short ? 1 : 0, FaultsMax + 1);
        for (; faults > 0; faults--)
        {
            // What is decided does not hang on what happens meanwhile.
            var (wait, lasting, isCut) = (_random.Next(100, 2500), _random.Next(100, 2000), _random.Next(2) == 0);
            var (link, site) = (stage.Links[_random.Next(stage.Links.Count)], stage.Sites[_random.Next(stage.Sites.Count)]);
            await Task.Delay(wait, cancellationToken);
            if (isCut) await CutAsync(link, lasting, cancellationToken);
            else await KillAsync(site, lasting / 2, cancellationToken);
        }
    }

    private async Task CutAsync(NetworkLink link, int lasting, CancellationToken cancellationToken)
    {
        tally.CutsDue++;
        bool isHit;
        lock (_pulling) isHit = _pulling.Any(way => way.Link == link);
        if (isHit) tally.Cuts++;
        _faultsOf[link]++;
        _story.Add($"link {stage.NumberOf(link)} cut for {lasting} ms{(isHit ? "" : " (idle)")}");
        link.Cut();
        await Task.Delay(lasting, cancellationToken);
        link.Mend();
    }

    private async Task KillAsync(PeerSite site, int lasting, CancellationToken cancellationToken)
    {
        tally.KillsDue++;
        bool isHit;
        lock (_pulling) isHit = _pulling.Any(way => way.Peering.Receiver == site || way.Peering.Source == site);
        if (isHit) tally.Kills++;
        foreach (var link in stage.Ways.Where(way => way.Peering.Receiver == site || way.Peering.Source == site).Select(static way => way.Link).Distinct()) _faultsOf[link]++;
        _story.Add($"{site.Name} killed for {lasting} ms{(isHit ? "" : " (idle)")}");
        await site.Installation.Controller.KillAsync();
        await Task.Delay(lasting, cancellationToken);
        await site.Installation.Controller.StartAsync();
    }

    /// <summary>Pulls until everything is there, and a pull that began behind the last fault has succeeded.</summary>
    private async Task ConvergeAsync(Way way, Task faults, CancellationToken cancellationToken)
    {
        var clock = default(Stopwatch);
        while (true)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var isLast = faults.IsCompleted;
            if (isLast) clock ??= Stopwatch.StartNew();
            lock (_pulling) _pulling.Add(way);
            var result = await way.Peering.PullAsync();
            lock (_pulling) _pulling.Remove(way);
            if (result.ExitCode == 0 && isLast && await HoldsAllAsync(way)) break;
            if (clock?.Elapsed > SettleLimit)
            {
                throw new RefutedException($"{way.Peering.Receiver.Name} has not converged {SettleLimit.TotalSeconds:0} s behind the last fault: {result.Stderr}{result.Stdout}");
            }
            await Task.Delay(PauseBetweenTries, cancellationToken);
            lock (_pulling) _furtherPullsOf[way.Link]++;
        }
        if (clock!.Elapsed > tally.Settled) tally.Settled = clock.Elapsed;
    }

    private async Task<bool> HoldsAllAsync(Way way) => await way.Peering.Receiver.TryListAsync() is { } listed && _new.All(one => listed.Contains(one.Point));

    /// <summary>In both directions, on each link: what was missing once, what a fault may have had on its way, and what it takes to ask again.</summary>
    private void RequireLittleTravelled(long missing, Dictionary<NetworkLink, LinkTraffic> before)
    {
        foreach (var (link, faults) in _faultsOf)
        {
            var wire = (link.Traffic - before[link]).Payload;
            tally.MissingBytes += missing;
            tally.WireBytes += wire;
            var further = _furtherPullsOf[link];
            if (faults == 0 && further == 0) tally.WorstShare = Math.Max(tally.WorstShare, (double)wire / missing);
            if (wire < missing * 0.95) throw new RefutedException($"{missing} bytes were missing, and only {wire} have travelled");
            if (wire > (missing * ShareMax) + (faults * ExcusedBytesOfFault) + (further * BytesOfFurtherPull))
            {
                throw new RefutedException($"{missing} bytes were missing, and {wire} have travelled over link {stage.NumberOf(link)} in both directions, with {faults} faults and {further} further pulls");
            }
        }
    }

    /// <summary>With all links cut, so that nobody helps, every replica lists the new points, and has them.</summary>
    private async Task LookAsync()
    {
        foreach (var link in stage.Links) link.Cut();
        foreach (var replica in stage.Replicas)
        {
            var listed = await replica.TryListAsync() ?? throw new RefutedException($"{replica.Name} does not answer");
            var all = stage.Machines.SelectMany(static one => one.Machine.Points).ToList();
            var lacking = all.Except(listed).ToList();
            if (lacking.Count > 0) throw new RefutedException($"{replica.Name} lacks the recovery points {string.Join(", ", lacking)}");
            var strange = listed.Except(all).ToList();
            if (strange.Count > 0) throw new RefutedException($"{replica.Name} lists recovery points that nobody made: {string.Join(", ", strange)}");
            if (stage.MayUnlock(replica)) await stage.UnlockAsync(replica);
            // Those of this trial, and an older one: what was whole must stay so.
            var older = stage.Machines.SelectMany(static one => one.Machine.Points.Select(point => (one.Machine, Point: point))).Except(_new).ToList();
            foreach (var (machine, point) in _new.Concat(older.Count == 0 ? [] : [older[_random.Next(older.Count)]]))
            {
                if (!await replica.TryVerifyAsync(point)) throw new RefutedException($"{replica.Name} does not answer");
                tally.Verified++;
                if (!stage.MayUnlock(replica)) continue;
                await replica.RequireRestorableAsync(machine, point, options.Sabotage == OtherDisk ? FlipByte : null);
                tally.Restored++;
            }
        }
        foreach (var link in stage.Links) link.Mend();
    }

    private async Task PlantAsync()
    {
        var replica = stage.Replicas.First();
        switch (options.Sabotage)
        {
            case SpoiledPack:
                var pack = new DirectoryInfo(Path.Combine(replica.Installation.Repository, "packs")).EnumerateFiles("*.vbp", SearchOption.AllDirectories).MaxBy(static file => file.LastWriteTimeUtc)!;
                using (var file = pack.Open(FileMode.Open, FileAccess.Write))
                {
                    file.Position = pack.Length / 2;
                    file.Write(new byte[4096]);
                }
                break;
            case ForgottenPoint:
                await replica.RunAsync("recovery-point", "forget", _new[0].Point);
                break;
        }
    }

    private async Task SendAgainAsync(long bytes, CancellationToken cancellationToken)
    {
        var (near, far) = await LinkGauge.ConnectAsync(stage.Sites[0].Network, stage.Sites[1].Network, stage.Links[0], cancellationToken);
        using (near)
        using (far)
        {
            var sending = near.SendAsync(new byte[bytes], cancellationToken).AsTask();
            var block = new byte[1 << 20];
            for (var left = bytes; left > 0;) left -= await far.ReceiveAsync(block, cancellationToken);
            await sending;
        }
    }

    private static void FlipByte(string disk)
    {
        using var file = File.Open(disk, FileMode.Open, FileAccess.ReadWrite);
        var value = file.ReadByte();
        file.Position = 0;
        file.WriteByte((byte)~value);
    }
}
