using VirtBackup.Agent.Tests.Fakes;
using VirtBackup.Core;
using VirtBackup.Proofs.Installation;
using VirtBackup.Proofs.Simulation;
using VirtBackup.Testing.Proofs;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Proofs.CrashPoints;

/// <summary>A full backup, an incremental one, one more and a restore, with at most one failure of the power (and its echo).</summary>
internal sealed class CrashRun : IAsyncDisposable
{
    public static readonly (string Name, string What)[] Defects =
    [
        ("skip-file-sync", "the store does not flush files"),
        ("skip-folder-sync", "the store does not flush folders"),
        ("tear-on-publish", "the store gives an object its name before all of it is written"),
        ("ack-before-durable", "the controller's word of durability comes before the store's"),
    ];

    private readonly CrashPlan? _plan;
    private readonly Random _random;
    private readonly string? _defect;
    private readonly Site _site;
    private readonly Host _host;
    private readonly FakeHypervisor _machine;
    private readonly ProvenObjects _proven = new();
    private SimulatedStore _store;
    private Power _power;

    public CrashRun(SingleThread thread, ProofOptions options, int trial, CrashPlan? plan)
    {
        _plan = plan;
        _defect = options.Sabotage;
        _random = options.RandomOf(trial, 0);
        var entropy = new SeededEntropy(_random.Next());
        _site = new Site(entropy, thread.Clock, _random.Next(300, 1200) << 10);
        _host = new Host(_site, entropy, thread.Clock, new HostOptions { AcknowledgeEarly = _defect == "ack-before-durable" });
        // Some machines need a map with more than one leaf.
        var length = _random.Next(3) == 0 ? (16 << 20) + _random.Next(2 << 20) : _random.Next(1, 3 << 20);
        _machine = _host.AddMachine(DiskContent.Create(_random, length, _random.Next(2, 7)), DiskContent.Create(_random, 700_001, 2));
        _power = new Power();
        _store = new SimulatedStore();
    }

    /// <summary>Operations of store and databases in all lives.</summary>
    public long Operations { get; private set; }

    /// <returns>The first operation after the installation, and the one after the last.</returns>
    public async Task<(long First, long End)> RunAsync()
    {
        await _site.InitializeAsync(_store);
        // A defect that is planted begins to work here: on a sound, empty repository.
        _store = _store.Kill(OptionsOf(_power));
        await _site.BootAsync(_store, _power, false, false);
        await _host.EnrollAsync();
        var first = _power.Operations;
        _power.FailsAt = _plan?.At;
        await BackUpAsync();
        Change();
        await BackUpAsync();
        Change();
        // Also what was written while the power was off reaches the next point.
        var last = await BackUpAsync();
        var end = _power.Operations;
        if (_plan is not null && _power.FailsAt is not null)
        {
            throw new RefutedException($"The run ended before operation {_plan.At}: trials are not repeatable.");
        }
        await RequireSoundAsync(_store);
        if (!_host.Acknowledged.Points.Contains(last))
        {
            throw new RefutedException($"The backup of point {last} succeeded without an acknowledged commit.");
        }
        var restored = await _host.RestoreAsync(_machine, last);
        restored.RequireTrue(last, _host.Sources[last].Disks);
        if (restored.Failure is { } failure)
        {
            throw new RefutedException($"Point {last} cannot be restored: {failure.Message}");
        }
        Operations += _power.Operations;
        return (first, end);
    }

    public async ValueTask DisposeAsync()
    {
        _proven.Dispose();
        _host.Dispose();
        await _site.DisposeAsync();
    }

    /// <summary>Backs up until there is a point, whatever happens to the power.</summary>
    private async Task<Id16> BackUpAsync()
    {
        while (true)
        {
            using var stop = new CancellationTokenSource();
            var sessions = _host.Acknowledged.Sessions;
            var running = _host.BackUpAsync(_machine, stop.Token);
            await Task.WhenAny(running, _power.WentOff);
            if (!_power.IsOff)
            {
                return await running;
            }
            if (_plan!.AgentGoesOn)
            {
                await RebootAsync();
                await Task.WhenAny(running);
                // A run gives up when it cannot even begin; once it has a session it has to end well.
                if (_host.Acknowledged.Sessions == sessions && IsCutShort(running.Exception?.InnerException))
                {
                    continue;
                }
                return await running;
            }
            await stop.CancelAsync();
            await Task.WhenAny(running);
            if (running.IsFaulted && running.Exception.InnerException is not (FaultException or SimulatedCrashException))
            {
                throw running.Exception.InnerException!;
            }
            await RebootAsync();
            await _host.RestartAsync(enroll: _plan.LoseCatalog);
            if (running.IsCompletedSuccessfully)
            {
                return await running;
            }
        }
    }

    private static bool IsCutShort(Exception? failure) => failure is SimulatedCrashException or FaultException { Reason: FaultReason.Unavailable };

    private async Task RebootAsync()
    {
        await TurnOnAsync(_plan!.AgainAt);
        try
        {
            await _site.BootAsync(_store, _power, _plan.LoseIndex, _plan.LoseCatalog);
        }
        catch (SimulatedCrashException)
        {
            await TurnOnAsync(null);
            await _site.BootAsync(_store, _power, false, false);
        }
        _power.FailsAt = null;
        var report = _site.Repository.OpenReport;
        if (report.ProblemCount > 0)
        {
            throw new RefutedException($"After the crash the repository is damaged: {report.Problems[0]}");
        }
        var visible = (await Census.TakeAsync(_store)).Points.Keys.Order();
        var known = (await _site.Repository.ListPointsAsync(null, CancellationToken.None)).Select(point => point.Point).Order();
        if (!visible.SequenceEqual(known))
        {
            throw new RefutedException("After the crash the index knows other points than the store holds.");
        }
    }

    /// <summary>The power returns: what the store holds now must be sound before anybody repairs anything.</summary>
    private async Task TurnOnAsync(long? failsAt)
    {
        Operations += _power.Operations;
        _power = new Power();
        _store = _plan!.Survivor(_store, OptionsOf(_power));
        _power.FailsAt = failsAt;
        await RequireSoundAsync(_store);
    }

    private async Task RequireSoundAsync(SimulatedStore store)
    {
        var census = await Census.TakeAsync(store);
        census.RequireAcknowledged(_host.Acknowledged);
        foreach (var (point, manifest) in census.Points)
        {
            census.RequirePoint(manifest, _site.Escrow, _host.Sources[point].Disks, _proven);
        }
    }

    private void Change()
    {
        for (var i = _random.Next(1, 4); i > 0; i--)
        {
            var disk = _machine.Disks[_random.Next(_machine.Disks.Count)];
            var offset = _random.Next(disk.Content.Length);
            var data = new byte[Math.Min(_random.Next(1, 2 * DiskContent.Chunk), disk.Content.Length - offset)];
            DiskContent.Fill(_random, data);
            disk.Write(offset, data);
        }
    }

    private SimulatedStoreOptions OptionsOf(Power power) => new()
    {
        Inject = power.Before,
        SkipFileSync = _defect == "skip-file-sync",
        SkipFolderSync = _defect == "skip-folder-sync",
        TearOnPublish = _defect == "tear-on-publish",
    };
}
