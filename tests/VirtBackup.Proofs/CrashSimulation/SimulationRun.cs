using VirtBackup.Core;
using VirtBackup.Proofs.Installation;
using VirtBackup.Proofs.Peers;
using VirtBackup.Proofs.Simulation;
using VirtBackup.Testing.Proofs;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Proofs.CrashSimulation;

/// <summary>One seed: agents, machines, a drawn sequence of deeds and one failure of the power (and its echo), then every check.</summary>
internal sealed class SimulationRun : IAsyncDisposable
{
    private const int ThirdHostOneIn = 8;
    private const int DeathAfterMax = 60;
    private const int VerifyOneIn = 6;
    private const int DeleteBothOneIn = 3;
    private const int ExpireInTheEndOneIn = 3;

    /// <summary>Until all that was stored is old enough to be condemned.</summary>
    private static readonly TimeSpan LongestSafety = TimeSpan.FromDays(8);

    /// <summary>After it sessions and points are closed that nobody uses.</summary>
    private static readonly TimeSpan Lease = TimeSpan.FromMinutes(20);

    private static readonly TimeSpan Day = TimeSpan.FromHours(25);

    /// <summary>Condemn; remove, repack and trash; empty.</summary>
    private const int CollectionsToEnd = 3;

    private readonly SingleThread _thread;
    private readonly Random _random;
    private readonly string? _defect;
    private readonly SimulationPlan _plan;
    private readonly Coverage _coverage;
    private readonly Site _site;
    private readonly List<Host> _hosts = [];
    private readonly Ledger _ledger;
    private readonly Collections _collections;
    private readonly ProvenObjects _proven = new();
    private readonly Deeds _deeds;
    private readonly Harming _harming;
    private readonly Soundness _soundness;
    private SimulatedStore _store;
    private Power _power;
    private bool _crashed;
    private readonly HashSet<Host> _mustEnroll = [];
    private readonly Peering? _peering;

    public SimulationRun(SingleThread thread, ProofOptions options, int trial, Coverage coverage, bool mayHavePeer)
    {
        (_thread, _coverage, _defect) = (thread, coverage, options.Sabotage);
        _random = options.RandomOf(trial, 0);
        var entropy = new SeededEntropy(_random.Next());
        var elsewhere = new CensusSource();
        _site = new Site(entropy, thread.Clock, _random.Next(4, 40) << 10)
        {
            RecordSources = [elsewhere],
            AlterIndex = Defect.OfIndex(_defect), AlterStore = store => Defect.Of(_defect, store),
        };
        _ledger = new Ledger(_site.Calendar);
        for (var hosts = _random.Next(ThirdHostOneIn) == 0 ? 3 : 2; _hosts.Count < hosts;)
        {
            var host = new Host(_site, entropy, thread.Clock, new HostOptions
            {
                Name = $"host-{_hosts.Count + 1}",
                Shape = TinyDisks.Shape,
                Weather = new Random(_random.Next()),
                AcknowledgeEarly = _defect == "ack-before-durable",
            });
            host.AddMachine([.. Enumerable.Range(0, _random.Next(1, 3)).Select(_ => TinyDisks.Create(_random))]);
            _hosts.Add(host);
        }
        _plan = SimulationPlan.Draw(_random, _hosts.Count);
        _collections = new Collections(_site, _plan.RepackDeadPercent, Defect.CollectorAhead(_defect));
        _deeds = new Deeds(_site, _hosts, _ledger, _collections, new OwnJobRunner(_site, thread.Clock), _plan.Expiry, _random, coverage);
        _harming = new Harming(_site, () => _store!, _hosts, _ledger, _deeds, elsewhere, _random, coverage, UntilDoneAsync);
        _soundness = new Soundness(_site, () => _store!, _hosts, _ledger, _harming, _proven);
        _power = new Power();
        _store = new SimulatedStore();
        _peering = mayHavePeer ? Peering.Draw(_site, _hosts, _proven, options.RandomOf(trial, 1), _defect, coverage) : null;
        elsewhere.Peer = _peering is null ? null : _peering.FindRecordAsync;
    }

    private SimulatedCrash Crash => _plan.Crash;

    public async Task RunAsync()
    {
        await _site.InitializeAsync(_store);
        // A defect that is planted begins to work here: on a sound, empty repository.
        (_power, _store) = NextLife(power => _store.Kill(OptionsOf(power)));
        await _site.BootAsync(_store, _power, false, false);
        foreach (var host in _hosts)
        {
            await host.EnrollAsync();
        }
        await (_peering?.InitializeAsync() ?? Task.CompletedTask);
        for (var i = 0; i < _plan.Steps.Count; i++)
        {
            if (i == Crash.Step && !Crash.InHarm)
            {
                Arm();
            }
            await RunAsync(_plan.Steps[i]);
        }
        if (!_crashed && Crash is { InStage: null, InHarm: false })
        {
            _coverage.Crash("nothing");
            _power.TurnOff();
            await SurviveAsync();
        }
        await RequireWorkingAsync();
        await (_peering?.RequireWorkingAsync() ?? Task.CompletedTask);
        if (_plan.Harm)
        {
            if (Crash.InHarm)
            {
                Arm();
            }
            await _harming.RunAsync(mayLose: !Crash.InHarm, SeeThroughAsync);
            await _soundness.RequireAsync(_power);
        }
        await RequireCleanAsync();
        await (_peering?.RequireWayBackAsync(RestartAsync) ?? Task.CompletedTask);
        await (_peering?.RequireCleanAsync(LongestSafety, Day, CollectionsToEnd) ?? Task.CompletedTask);
        if (!_crashed)
        {
            _coverage.Crash("nothing");
        }
        _coverage.Count("transactions", _power.Transactions);
    }

    public async ValueTask DisposeAsync()
    {
        if (_peering is not null)
        {
            await _peering.DisposeAsync();
        }
        _proven.Dispose();
        _hosts.ForEach(host => host.Dispose());
        await _site.DisposeAsync();
    }

    private async Task RunAsync(SimulationStep step)
    {
        _thread.Clock.Skip(step.Passes);
        // A backup whose base is forgotten meanwhile is refused.
        _deeds.MayFail = step.BadWeather || step.Deeds.Contains(Deed.AgentDeath) || step.Deeds.Contains(Deed.Forget) || step.Deeds.Contains(Deed.Expire);
        _hosts.ForEach(host => host.Life.Cable.IsBad = step.BadWeather);
        if (step.Deeds.Contains(Deed.AgentDeath))
        {
            _hosts[_random.Next(_hosts.Count)].Life.Cable.DiesAfter = _random.Next(DeathAfterMax);
        }
        var running = step.Deeds.Select(_deeds.Begin).Append(_peering?.Begin()).OfType<Task>().ToList();
        if (step.Deeds.Contains(Deed.Rebuild))
        {
            await RestartControllerAsync();
        }
        await SeeThroughAsync(Task.WhenAll(running));
        _hosts.ForEach(host => host.Life.Cable.DiesAfter = null);
        try
        {
            await RestartAgentsAsync();
        }
        catch (SimulatedCrashException)
        {
            await SurviveAsync();
        }
        if (step.Deeds.Contains(Deed.Collect))
        {
            await _soundness.RequireAsync(_power);
        }
    }

    /// <summary>Waits for deeds; if the power fails, they go on when it is back.</summary>
    private async Task SeeThroughAsync(Task running)
    {
        await Task.WhenAny(running, _power.WentOff);
        if (_power.IsOff)
        {
            _deeds.MayFail = true;
            await SurviveAsync();
        }
        await running;
    }

    private async Task RestartAgentsAsync()
    {
        Stage.Enter("connect");
        foreach (var host in _hosts.Where(host => host.Life.IsOver || !host.IsConnected))
        {
            await host.RestartAsync(_mustEnroll.Contains(host));
            // Not before: the power may fail meanwhile.
            _mustEnroll.Remove(host);
        }
    }

    /// <summary>The controller ends and starts, with nothing else going on.</summary>
    private async Task<SimulatedStore> RestartAsync()
    {
        _power.TurnOff();
        (_power, _store) = NextLife(power => _store.Kill(OptionsOf(power)));
        await _site.BootAsync(_store, _power, false, false);
        return _store;
    }

    /// <summary>Somebody restarts the controller and has the index made anew, or deletes both databases before.</summary>
    private async Task RestartControllerAsync()
    {
        await Task.Yield();
        _deeds.MayFail = true;
        if (_power.IsOff)
        {
            return;
        }
        var both = _random.Next(DeleteBothOneIn) == 0;
        if (both)
        {
            // Nobody knows their jobs any more.
            _hosts.ForEach(host => host.Life.End());
            _mustEnroll.UnionWith(_hosts);
        }
        var (failsIn, failsWhen) = (_power.FailsAt - _power.Operations, _power.FailsWhen);
        _power.TurnOff();
        (_power, _store) = NextLife(power => _store.Kill(OptionsOf(power)));
        (_power.FailsAt, _power.FailsWhen) = (failsIn, failsWhen);
        Stage.Enter(both ? "rebuild-both" : "rebuild");
        _coverage.Count($"begun:{Stage.Now}");
        try
        {
            await _site.BootAsync(_store, _power, both, both, rebuild: !both);
            _coverage.Count($"done:{Stage.Now}");
        }
        catch (SimulatedCrashException)
        {
            // That was the seed's crash.
        }
    }

    /// <summary>The power fails soon.</summary>
    private void Arm()
    {
        var left = Crash.After;
        if (Crash.InStage is not { } stage)
        {
            _power.FailsAt = _power.Operations + left;
            return;
        }
        var name = Collections.StageOf(stage);
        _power.FailsWhen = () => Stage.Now == name && left-- <= 0;
    }

    /// <summary>From the failure of the power to the day after.</summary>
    private async Task SurviveAsync()
    {
        _crashed = true;
        foreach (var (host, goesOn) in _hosts.Zip(Crash.AgentsGoOn))
        {
            if (!goesOn)
            {
                host.Life.End();
            }
        }
        Stage.Enter("start-up");
        await TurnOnAsync(Crash.AgainAt);
        if (Crash.LoseCatalog)
        {
            _mustEnroll.UnionWith(_hosts);
        }
        try
        {
            // What is damaged only the index knows, until it is found again.
            await _site.BootAsync(_store, _power, Crash.LoseIndex && _harming.Damaged.Count == 0, Crash.LoseCatalog);
        }
        catch (SimulatedCrashException)
        {
            await TurnOnAsync(null);
            await _site.BootAsync(_store, _power, false, false);
        }
        _power.FailsAt = null;
        await _soundness.RequireIndexAsync(await _soundness.TakeCensusAsync(), hasJustStarted: true);
        await RestartAgentsAsync();
    }

    /// <summary>The power returns: what the store holds now must be sound before anybody repairs anything.</summary>
    private async Task TurnOnAsync(long? failsAt)
    {
        var died = _power;
        (_power, _store) = NextLife(power => Crash.ProcessOnly ? _store.Kill(OptionsOf(power)) : _store.Crash(Crash.Seed, OptionsOf(power)));
        _ledger.Require(await _soundness.TakeCensusAsync(), _site.Escrow, _hosts, _proven, died);
        _power.FailsAt = failsAt;
    }

    private (Power, SimulatedStore) NextLife(Func<Power, SimulatedStore> store)
    {
        _coverage.Count("transactions", _power.Transactions);
        var power = new Power { Passed = () => _coverage.Operation(Stage.Now), Failed = () => _coverage.Crash(Stage.Now) };
        return (power, store(power));
    }

    /// <summary>Does something in fair weather, again if the power fails meanwhile.</summary>
    private async Task UntilDoneAsync(Func<Task> deed)
    {
        Power before;
        do
        {
            before = _power;
            _deeds.MayFail = false;
            await SeeThroughAsync(deed());
        }
        while (before != _power);
        _deeds.MayFail = false;
    }

    /// <summary>In fair weather everything works, and all that was promised is there.</summary>
    private async Task RequireWorkingAsync()
    {
        _hosts.ForEach(host => host.Life.Cable.IsBad = false);
        foreach (var machine in _hosts.SelectMany(host => host.Machines))
        {
            await UntilDoneAsync(() => _deeds.BackUpAsync(machine));
        }
        await _soundness.RequireAsync(_power);
    }

    /// <summary>With nothing else going on, all that no visible point needs leaves the store, and everything else stays.</summary>
    private async Task RequireCleanAsync()
    {
        _collections.Count(_coverage, isEnd: false);
        await LeaveAloneAsync();
        if (_random.Next(ExpireInTheEndOneIn) == 0)
        {
            await ExpireAloneAsync();
        }
        _site.Calendar.Pass(LongestSafety);
        for (var day = 0; day < CollectionsToEnd; day++)
        {
            await _deeds.CollectOnceAsync();
            _site.Calendar.Pass(Day);
            if (_power.IsOff)
            {
                await SurviveAsync();
                _site.Calendar.Pass(LongestSafety);
                day = -1;
            }
        }
        _collections.Count(_coverage, isEnd: true);
        var census = await _soundness.RequireAsync(_power);
        var needed = References.Of(census);
        Cleanness.RequireNothingUnneeded(census, needed, _collections.RepackDeadPercent);
        var audit = await _site.Repository.AuditAsync(CancellationToken.None);
        if (!audit.IsSound || audit.CountedTooOften > 0)
        {
            throw new RefutedException($"In the end an audit finds {audit.CountedTooOften} objects counted too often: {audit.Problem}");
        }
        var dump = await _site.DumpAsync();
        needed.RequireCounted(dump, exactly: true);
        // The census has read all of it without the product; that the product reads it too costs more.
        if (_ledger.Visible.ToList() is { Count: > 0 } visible)
        {
            await _deeds.RestoreAsync(visible[_random.Next(visible.Count)]);
        }
        if (_random.Next(VerifyOneIn) == 0)
        {
            await _deeds.VerifyAsync();
        }
        Cleanness.RequireEqual(dump, await _site.DumpAnewAsync());
    }

    private async Task ExpireAloneAsync()
    {
        Census? before = null;
        IReadOnlyList<Id16>? expired = null;
        var life = _power;
        await UntilDoneAsync(async () =>
        {
            before = await _soundness.TakeCensusAsync();
            expired = await _deeds.ExpireAsync();
        });
        if (life == _power)
        {
            await _plan.Expiry.RequireRightAsync(_site.Role, before!, expired!);
        }
    }

    /// <summary>So much time passes that the controller ends what dead agents have left open.</summary>
    private async Task LeaveAloneAsync()
    {
        using var stop = new CancellationTokenSource();
        var sweeping = _site.Role.Store.RunAsync(stop.Token);
        await Task.Delay(Lease, _thread.Clock);
        await stop.CancelAsync();
        await sweeping.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
    }

    private SimulatedStoreOptions OptionsOf(Power power) => Defect.OptionsOf(_defect, power);
}
