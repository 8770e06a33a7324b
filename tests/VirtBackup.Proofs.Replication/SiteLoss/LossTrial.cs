using System.Diagnostics;
using VirtBackup.Proofs.Replication.Sites;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Links;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Replication.SiteLoss;

/// <summary>Two sites with a link, three machines at one of them, and the end of that one.</summary>
internal sealed class LossTrial(ProofOptions options, int trial) : IAsyncDisposable
{
    public const string LoseDependency = "lose-dependency";
    public const string ReadyTooSoon = "ready-too-soon";
    public const string OlderPoint = "older-point";

    private const string Group = "trio";
    private const string Folder = "recovered";
    private static readonly string[] Names = ["base", "middle", "top"];
    private readonly Random _random = options.RandomOf(trial, 0);
    private readonly List<MarkedMachine> _machines = [];
    private readonly List<IDisposable> _networks = [];
    private readonly List<PeerSite> _sites = [];
    private readonly Dictionary<string, int> _generations = new(StringComparer.Ordinal);
    private NetworkLink _link = null!;
    private Peering _peering = null!;
    private int _generation;

    private PeerSite Lost => _sites[0];

    private PeerSite Left => _sites[1];

    public async Task<LossFigures> RunAsync(CancellationToken cancellationToken)
    {
        await SetAsync(cancellationToken);
        // Of older points there is always one, so that taking it would be noticed.
        for (var backups = options.Short ? 2 : _random.Next(2, 5); backups > 0; backups--) await BackUpAsync(cancellationToken);
        await AwaitReplicatedAsync();
        var (wasBackingUp, lostAt) = await LoseAsync(cancellationToken);
        var clock = Stopwatch.StartNew();
        await Left.RunAsync("peer", "unlock", "--kit", Left.Installation.File("kit-of-lost"));
        var newest = await NewestAsync();
        var witnesses = new StartWitnesses(Left, Folder);
        var result = await witnesses.RecoverAsync(Names, options.Sabotage == OlderPoint ? ["--at", $"{newest.Values.Min(static one => one.Created).AddMilliseconds(-1):O}"] : []);
        var rto = clock.Elapsed.TotalSeconds;
        var order = await witnesses.RequireOrderAsync(result, Edges);
        var generations = new List<int>();
        foreach (var name in Names)
        {
            var machine = result.GetProperty("machines").EnumerateArray().Single(machine => machine.GetProperty("vm").GetString() == name);
            var point = machine.GetProperty("point_id").GetString()!;
            Require(point == newest[name].Point, $"{name} was recovered from {point}, and the newest that came is {newest[name].Point}");
            // Points of the backup that the loss ended were told to nobody: they are of the last generation.
            var expected = _generations.GetValueOrDefault(point, _generation);
            var found = MarkedMachine.Read(await witnesses.DisksOfAsync(machine));
            Require(found == expected, $"{name} holds generation {found}, and its recovery point {point} was made of generation {expected}");
            generations.Add(found);
        }
        return new LossFigures((lostAt - newest.Values.Min(static one => one.Created)).TotalSeconds, rto, wasBackingUp, generations, order);
    }

    private IReadOnlyList<(string Machine, string Needs)> Edges { get; set; } = [];

    public async ValueTask DisposeAsync()
    {
        if (_sites.Count == 2) StartWitnesses.KillRestored(Left.Installation.File(Folder));
        foreach (var machine in _machines) await machine.DisposeAsync();
        foreach (var site in _sites)
        {
            // What was lost is not there to be removed.
            Directory.CreateDirectory(site.Installation.Folder);
            await site.DisposeAsync();
        }
        foreach (var network in _networks) network.Dispose();
    }

    private async Task SetAsync(CancellationToken cancellationToken)
    {
        var starting = Names.Select(name => MarkedMachine.StartAsync(name, cancellationToken)).ToList();
        foreach (var machine in starting) await ((Task)machine).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _machines.AddRange(starting.Where(static machine => machine.IsCompletedSuccessfully).Select(static machine => machine.Result));
        await Task.WhenAll(starting);
        var (near, far) = (await NetworkSite.CreateAsync("lost", cancellationToken), await NetworkSite.CreateAsync("left", cancellationToken));
        _networks.AddRange([near, far]);
        var roundTrip = TimeSpan.FromMilliseconds(new[] { 5, 40, 150 }[_random.Next(3)]);
        _link = await NetworkLink.CreateAsync(near, far, 1, new LinkOptions(200_000_000, roundTrip, LargePackets: true), cancellationToken: cancellationToken);
        _networks.Insert(0, _link);
        _sites.Add(await PeerSite.StartAsync(near, (_, agent) =>
        {
            foreach (var machine in _machines) agent.Add(machine.Vm, guestAgent: false);
            return [];
        }));
        _sites.Add(await PeerSite.StartAsync(far, static (installation, agent) =>
        {
            agent.Append(StartWitnesses.WriteProbes(installation));
            return [];
        }));
        // Whoever keeps a kit keeps it elsewhere.
        File.Copy(Lost.Installation.Kit, Left.Installation.File("kit-of-lost"));
        foreach (var name in Names) await Lost.Installation.WaitForMachineAsync(name);
        await Lost.RunAsync(["group", "create", Group, .. Names, "--skew-bound", "10000"]);
        _peering = await Peering.BeginAsync(Left, Lost, _link.FirstAddress, offer: false, ["--continuous"]);
    }

    private async Task BackUpAsync(CancellationToken cancellationToken)
    {
        await WriteGenerationAsync(cancellationToken);
        var result = (await Lost.RunAsync("group", "backup", Group, "--no-quiesce")).GetProperty("result").GetProperty("group_backup");
        foreach (var member in result.GetProperty("members").EnumerateArray()) _generations.Add(member.GetProperty("point_id").GetString()!, _generation);
    }

    private async Task WriteGenerationAsync(CancellationToken cancellationToken)
    {
        _generation++;
        foreach (var machine in _machines) await machine.WriteAsync(_generation, cancellationToken);
    }

    /// <summary>Waits until the first generation has come whole, and tells the other site what needs what.</summary>
    private async Task AwaitReplicatedAsync()
    {
        var first = _generations.Where(static one => one.Value == 1).Select(static one => one.Key).ToList();
        await Installation.PollAsync("the first generation at the other site", async () => await Left.TryListAsync() is { } listed && first.All(listed.Contains));
        // Their names come with the listing, not with the points.
        await Installation.PollAsync("the machines at the other site", async () =>
        {
            var known = (await Left.RunAsync("vm", "list")).GetProperty("virtual_machines").EnumerateArray().Select(static machine => machine.GetProperty("name").GetString()).ToList();
            return Names.All(known.Contains);
        });
        var order = Names.ToArray();
        _random.Shuffle(order);
        Edges = _random.Next(2) == 0 || options.Short ? [(order[1], order[0]), (order[2], order[0])] : [(order[1], order[0]), (order[2], order[1])];
        foreach (var name in Names)
        {
            var probe = options.Sabotage == ReadyTooSoon && name == order[0] ? StartWitnesses.HastyProbe : StartWitnesses.Probe;
            await Left.RunAsync("dependency", "probe", name, "--command", probe, "--interval", "0.1", "--timeout", "280");
        }
        foreach (var (machine, needs) in Edges) await Left.RunAsync("dependency", "add", machine, "--needs", needs);
        if (options.Sabotage == LoseDependency) await Left.RunAsync("dependency", "remove", Edges[0].Machine, "--needs", Edges[0].Needs);
    }

    /// <summary>Begins one more backup, and ends everything at the site in the middle of it, its folders included.</summary>
    private async Task<(bool WasBackingUp, DateTimeOffset At)> LoseAsync(CancellationToken cancellationToken)
    {
        await WriteGenerationAsync(cancellationToken);
        var job = (await Lost.RunAsync("group", "backup", Group, "--no-quiesce", "--full", "--rate-limit", "8MiB", "--detach")).GetProperty("job_id").GetString()!;
        await Task.Delay(_random.Next(500, options.Short ? 1500 : 6000), cancellationToken);
        var state = (await Lost.RunAsync("job", "show", job)).GetProperty("state").GetString();
        var at = DateTimeOffset.UtcNow;
        await Lost.Installation.Controller.KillAsync();
        await Lost.Agent.Service.KillAsync();
        _link.Cut();
        Directory.Delete(Lost.Installation.Folder, recursive: true);
        foreach (var machine in _machines) await machine.DisposeAsync();
        _machines.Clear();
        return (state is not ("succeeded" or "failed" or "cancelled"), at);
    }

    /// <returns>The newest recovery point of each machine that the site that is left lists.</returns>
    private async Task<Dictionary<string, (string Point, DateTimeOffset Created)>> NewestAsync()
    {
        var newest = new Dictionary<string, (string, DateTimeOffset)>(StringComparer.Ordinal);
        foreach (var point in (await Left.RunAsync("recovery-point", "list")).GetProperty("recovery_points").EnumerateArray())
        {
            // Newest first.
            newest.TryAdd(point.GetProperty("vm").GetString()!, (point.GetProperty("point_id").GetString()!, point.GetProperty("create_time").GetDateTimeOffset()));
        }
        var status = await _peering.ShowAsync();
        foreach (var machine in status.GetProperty("machines").EnumerateArray())
        {
            var told = machine.GetProperty("newest_here_time").GetDateTimeOffset();
            var (_, created) = newest[machine.GetProperty("vm").GetString()!];
            Require((told - created).Duration() < TimeSpan.FromSeconds(1), $"the status says that the newest recovery point here is of {told:O}, and the list says {created:O}");
        }
        return newest;
    }

    private static void Require(bool holds, string otherwise)
    {
        if (!holds) throw new RefutedException(otherwise);
    }
}
