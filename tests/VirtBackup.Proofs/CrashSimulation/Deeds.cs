using VirtBackup.Agent.Tests.Fakes;
using VirtBackup.Core;
using VirtBackup.Proofs.Installation;
using VirtBackup.Proofs.Simulation;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Repository.Verification;
using VirtBackup.Sealing;
using VirtBackup.Testing.Proofs;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Proofs.CrashSimulation;

/// <summary>What agents and operators do, and what may come of it. A deed that the controller's fall cuts short ends without a result.</summary>
internal sealed class Deeds(Site site, IReadOnlyList<Host> hosts, Ledger ledger, Collections collections, OwnJobRunner jobs, Expiry expiry, Random random, Coverage coverage)
{
    private const int CollectionsMax = 5;
    private const int PauseMax = 60;
    private const int OnceOneIn = 3;
    private const int LongOneIn = 6;

    private bool _collecting;
    private readonly HashSet<Id16> _busy = [];

    /// <summary>Deeds may fail, because the weather is bad, an agent dies, or the power fails.</summary>
    public bool MayFail { get; set; }

    /// <summary>Whether days may pass during a backup, on which the collector runs.</summary>
    public bool MayTakeDays { get; set; } = true;

    /// <summary>A deed of that kind, for what is free; null when there is nothing to do it for.</summary>
    public Task? Begin(Deed deed) => deed switch
    {
        Deed.BackUp => Draw(hosts.SelectMany(host => host.Machines).Where(machine => !_busy.Contains(machine.Machine))) is { } machine
            ? BackUpAsync(machine) : null,
        Deed.Restore => DrawPoint(ledger.Visible) is { } point ? RestoreAsync(point) : null,
        Deed.Forget => DrawPoint(ledger.Visible) is { } point ? ForgetAsync(point, false) : null,
        Deed.Recall => DrawPoint(ledger.Forgotten) is { } point ? ForgetAsync(point, true) : null,
        Deed.Verify => VerifyAsync(),
        Deed.Collect => _collecting ? null : CollectAsync(),
        Deed.Scrub => ScrubAsync("scrub"),
        Deed.Expire => ExpireAsync(),
        _ => null,
    };

    /// <summary>Backs up a machine after its guest has written.</summary>
    public async Task BackUpAsync(FakeHypervisor machine)
    {
        TinyDisks.Change(random, machine, EarlierOf(HostOf(machine.Machine), machine.Machine));
        await BackUpAsync(machine, full: random.Next(6) == 0);
    }

    /// <summary>Backs up a machine in full after all its disks were set to that.</summary>
    public async Task BackUpAsync(Id16 machine, IReadOnlyDictionary<Id16, byte[]> disks)
    {
        var set = HostOf(machine).Machines.Single(candidate => candidate.Machine == machine);
        TinyDisks.SetBack(set, disks);
        await BackUpAsync(set, full: true);
    }

    private async Task BackUpAsync(FakeHypervisor machine, bool full)
    {
        _busy.Add(machine.Machine);
        try
        {
            var host = HostOf(machine.Machine);
            host.Probed = MayTakeDays && random.Next(LongOneIn) == 0 ? DaysPass() : static () => Task.CompletedTask;
            await AttemptAsync("backup", async () =>
            {
                var point = await host.BackUpAsync(machine, CancellationToken.None, full);
                if (!host.Acknowledged.Points.Contains(point))
                {
                    throw new RefutedException($"The backup of point {point} succeeded without an acknowledged commit.");
                }
                ledger.Committed(point);
            });
        }
        finally
        {
            _busy.Remove(machine.Machine);
        }
    }

    /// <summary>Restores a point; what is written is right even if it fails.</summary>
    public async Task RestoreAsync(Id16 point)
    {
        _busy.Add(point);
        try
        {
            var host = hosts.First(host => host.Sources.ContainsKey(point));
            var (machine, disks) = host.Sources[point];
            await AttemptAsync("restore", async () =>
            {
                var restored = await host.RestoreAsync(host.Machines.Single(candidate => candidate.Machine == machine), point);
                restored.RequireTrue(point, disks);
                if (restored.Failure is { } failure)
                {
                    throw new FaultException(failure.Reason, failure.Message, failure);
                }
            });
        }
        finally
        {
            _busy.Remove(point);
        }
    }

    /// <summary>Proves that verification with all keys finds nothing wrong.</summary>
    public async Task VerifyAsync() => await AttemptAsync("verify", async () =>
    {
        using var keyholder = new Keyholder(site.Store, site.Escrow, site.Repository.Head.Uuid);
        using var opener = new EscrowedChunkOpener(keyholder, site.Repository.Head);
        var options = new VerificationOptions { Signatures = new KeptSignatures(site.Store), Opener = opener };
        var report = await site.Repository.VerifyAsync(options, CancellationToken.None);
        if (report.DamageCount > 0)
        {
            throw new RefutedException($"Verification of a sound repository names damage: {report.Damages[0].ObjectKey}: {report.Damages[0].Problem}");
        }
    });

    /// <summary>Has the controller read everything, take out of use what is damaged, and heal what it can.</summary>
    /// <param name="stage">Under which its operations are counted.</param>
    /// <param name="mayFind">Something is damaged.</param>
    public async Task ScrubAsync(string stage, bool mayFind = false) => await AttemptAsync(stage, async () =>
    {
        var result = (await jobs.RunAsync(async role => (await role.Admin.StartScrubAsync(new StartScrubRequest(), CancellationToken.None)).Job)).Scrub;
        if (result.DamagesTotal > 0 && !mayFind)
        {
            var what = result.Findings.Select(finding => finding.ToString()).Concat(result.Problems.Select(problem => problem.ToString()));
            throw new RefutedException($"The scrub of a sound repository finds damage: {string.Join(", ", what)}");
        }
        coverage.Count("rot:findings", result.Findings.Count);
        coverage.Count("rot:healed-from-elsewhere", (long)result.RecordsHealed);
    });

    /// <summary>Has the controller let go what no rule keeps.</summary>
    /// <returns>What has expired; null: it failed.</returns>
    public async Task<IReadOnlyList<Id16>?> ExpireAsync()
    {
        List<Id16>? expired = null;
        ledger.Expiring(hosts);
        await AttemptAsync("expire", async () =>
        {
            expired = await expiry.ApplyAsync(jobs, site.Time);
            ledger.Expired(expired);
            coverage.Count("expired", expired.Count);
        });
        return expired;
    }

    /// <summary>Runs of the collector, with hours and days between.</summary>
    public async Task CollectAsync()
    {
        _collecting = true;
        try
        {
            if (random.Next(OnceOneIn) == 0)
            {
                // What is too young to go is looked for while it is young.
                await CollectOnceAsync();
                return;
            }
            if (random.Next(2) == 0)
            {
                site.Calendar.Pass(TimeSpan.FromHours(random.Next(160, 200)));
            }
            for (var left = random.Next(1, CollectionsMax + 1); left > 0; left--)
            {
                await CollectOnceAsync();
                for (var pause = random.Next(PauseMax); pause > 0; pause--)
                {
                    await Task.Yield();
                }
                site.Calendar.Pass(TimeSpan.FromHours(random.Next(6) == 0 ? random.Next(160, 200) : random.Next(12, 60)));
            }
        }
        finally
        {
            _collecting = false;
        }
    }

    /// <summary>A backup takes days, on which the collector runs: between an agent's probe and what it does by the answer.</summary>
    private Func<Task> DaysPass()
    {
        var left = random.Next(3, CollectionsMax + 1);
        return async () =>
        {
            if (_collecting || random.Next(2) == 0)
            {
                return;
            }
            _collecting = true;
            try
            {
                for (; left > 0; left--)
                {
                    site.Calendar.Pass(TimeSpan.FromHours(random.Next(3) == 0 ? random.Next(100, 200) : random.Next(25, 60)));
                    await CollectOnceAsync();
                }
            }
            finally
            {
                _collecting = false;
            }
        };
    }

    /// <summary>What the machine was when points of it were made: of those that only forgotten points have, if there are some.</summary>
    private List<IReadOnlyDictionary<Id16, byte[]>> EarlierOf(Host host, Id16 machine)
    {
        var all = host.Sources.Where(source => source.Value.Machine == machine).ToDictionary(source => source.Key, source => source.Value.Disks);
        var forgotten = ledger.Forgotten.Where(all.ContainsKey).ToList();
        return [.. (forgotten.Count > 0 ? forgotten : all.Keys.Order().ToList()).Select(point => all[point])];
    }

    public async Task CollectOnceAsync() => await AttemptAsync("collect", async () =>
    {
        if (site.Connect() is (_, var power))
        {
            await collections.RunAsync(power);
        }
    });

    private async Task ForgetAsync(Id16 point, bool undo)
    {
        _busy.Add(point);
        try
        {
            ledger.Asked(point);
            await AttemptAsync(undo ? "recall" : "forget", async () =>
            {
                try
                {
                    await site.Role.Admin.ForgetRecoveryPointAsync(new ForgetRecoveryPointRequest { Point = point.ToString(), Undo = undo }, CancellationToken.None);
                    ledger.Answered(point, forgotten: !undo);
                }
                catch (FaultException late) when (undo && late.Reason == FaultReason.NotFound && ledger.MayBeGone(point))
                {
                    ledger.Answered(point, forgotten: true);
                }
            });
        }
        finally
        {
            _busy.Remove(point);
        }
    }

    /// <summary>Runs a deed until it ends or the power does; a failure counts only when nothing excuses it.</summary>
    private async Task AttemptAsync(string stage, Func<Task> deed)
    {
        Stage.Enter(stage);
        coverage.Count($"begun:{stage}");
        if (site.Connect() is not (_, var power))
        {
            return;
        }
        try
        {
            await deed();
            coverage.Count($"done:{stage}");
        }
        catch (FaultException failure) when (MayFail || power.IsOff)
        {
            coverage.Count($"failed:{stage}");
            _ = failure;
        }
        catch (OperationCanceledException) when (MayFail || power.IsOff)
        {
            coverage.Count($"failed:{stage}");
        }
        catch (SimulatedCrashException) when (power.IsOff)
        {
            coverage.Count($"failed:{stage}");
        }
    }

    private Host HostOf(Id16 machine) => hosts.Single(host => host.Machines.Exists(candidate => candidate.Machine == machine));

    private Id16? DrawPoint(IEnumerable<Id16> points)
    {
        var free = points.Where(point => !_busy.Contains(point)).ToList();
        return free.Count == 0 ? null : free[random.Next(free.Count)];
    }

    private FakeHypervisor? Draw(IEnumerable<FakeHypervisor> machines)
    {
        var free = machines.ToList();
        return free.Count == 0 ? null : free[random.Next(free.Count)];
    }
}
