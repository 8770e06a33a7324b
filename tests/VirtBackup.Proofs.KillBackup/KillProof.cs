using System.Diagnostics;
using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.KillBackup;

/// <summary>
/// A guest that writes all the time, an agent, a controller, and a hand that kills them in the middle of backups. Whatever
/// was committed must stay and be restored equal, and the next backup must miss nothing.
/// </summary>
internal sealed class KillProof(LabVm vm, Installation installation, InstalledAgent agent, ProofOptions options)
{
    private const string Machine = "writer";

    // Reading what the guest writes in a trial takes about two seconds.
    private const string Rate = "8MiB";
    private readonly KnownPoints _points = new(vm, installation, options.Sabotage);
    private readonly Tally _tally = new();
    private readonly Stopwatch _step = Stopwatch.StartNew();
    private readonly List<string> _steps = [];

    /// <summary>What was done so far.</summary>
    public string Figures => $"{_tally} points={_points.Count} restores={_points.Restores}";

    /// <summary>Sets the stage and runs the trials.</summary>
    /// <param name="begun">Called when the stage is set.</param>
    public static async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Action<KillProof> begun, CancellationToken cancellationToken)
    {
        var guest = await LabGuest.GetAsync(cancellationToken);
        await using var vm = await LabVm.BootAsync(new LabVmOptions
        {
            Name = Machine,
            Disks =
            [
                new LabDiskOptions { NodeName = "root", CopyFrom = guest.RootDisk },
                new LabDiskOptions { NodeName = "data", CopyFrom = guest.DataDisk, Format = LabDiskFormat.Raw },
            ],
        }, cancellationToken);
        var (installation, agent) = await Installation.StartAsync((_, agent) => agent.Add(vm));
        await using var _ = installation;
        await installation.WaitForMachineAsync(Machine);
        var proof = new KillProof(vm, installation, agent, options);
        begun(proof);
        try
        {
            await proof.BeginAsync();
            foreach (var trial in trials)
            {
                cancellationToken.ThrowIfCancellationRequested();
                await proof.TryAsync(trial, KillPlan.Of(options.Seed, trial));
            }
            await proof._points.RequireKeptAsync(full: true);
        }
        catch
        {
            Console.WriteLine($"--- agent\n{agent.Service.Log}--- controller\n{installation.Controller.Log}---");
            throw;
        }
    }

    private async Task BeginAsync()
    {
        (await vm.ExecAsync("dd if=/dev/zero of=/data/w bs=1M count=48 2>/dev/null; sync; " +
            "(n=0; while :; do dd if=/dev/urandom of=/data/w bs=64k count=4 seek=$((n * 4)) conv=notrunc; sync; n=$(((n + 7) % 190)); sleep 0.3; done) </dev/null >/dev/null 2>&1 &"))
            .EnsureSuccess();
        await BackUpPausedAsync();
        Note("first backup");
        if (options.Sabotage == Sabotages.DamagePack) Sabotages.DamagePackOf(installation);
        WriteSteps();
    }

    private async Task TryAsync(int trial, KillPlan plan)
    {
        Console.WriteLine($"trial {trial}: {plan}");
        (await vm.ExecAsync(plan.Writes.Before)).EnsureSuccess();
        Note("write");
        // With the guest paused throughout, every attempt of the killed backup cuts the same known content.
        if (plan.Paused) await vm.QmpAsync("stop");
        var hashes = plan.Paused ? await _points.HashDisksAsync() : null;
        Note("hash");

        var asked = DateTimeOffset.UtcNow;
        var marks = new BackupMarks(vm, installation, agent);
        var asking = installation.RunAsync("backup", "run", Machine, "--detach", "--rate-limit", Rate);
        await marks.WaitAsync(plan.Mark);
        await Task.Delay(plan.Delay);
        await KillAsync(plan.Victims);
        var stage = await marks.ReadStageAsync();
        var answer = await asking;
        Note("backup and kill");
        await RestartAsync(plan);
        Note("restart");
        // A controller that was killed before it answered has made the job, or it has not.
        var killed = answer.ExitCode == 0 ? answer.Json : await FindJobAsync(asked);
        if (killed is null) stage = Stage.Unasked;
        _tally.Count(plan.Victims, stage);
        Console.WriteLine($"  killed while '{stage.ToString().ToLowerInvariant()}'");
        if (killed is { } job) await SettleAsync(marks, job, stage, hashes);
        await _points.RequireKeptAsync(full: false);
        Note("verify");

        var expected = plan.Paused ? "paused" : "running";
        var state = (await vm.QmpAsync("query-status")).GetProperty("status").GetString();
        if (state != expected) throw new RefutedException($"the guest is '{state}' after the kill; it was '{expected}'");
        if (plan.Paused) await vm.QmpAsync("cont");
        // Whatever the kill left: nothing that the guest wrote before or after it is missed by the next backup.
        (await vm.ExecAsync(plan.Writes.After)).EnsureSuccess();
        Note("write");
        if (options.Sabotage == Sabotages.ForgetWrites) await Sabotages.ForgetWritesAsync(vm);
        await installation.WaitForMachineAsync(Machine);
        await BackUpPausedAsync();
        await RequireTidyAsync();
        await _points.RequireEarlierAsync(plan.EarlierPoint);
        Note("restore an earlier point");
        WriteSteps();
    }

    private async Task BackUpPausedAsync()
    {
        await vm.QmpAsync("stop");
        var hashes = await _points.HashDisksAsync();
        Note("hash");
        var point = await installation.BackUpAsync(Machine);
        await vm.QmpAsync("cont");
        Note("next backup");
        if (_tally.Trials > 0 && point.GetProperty("streams").EnumerateArray().All(disk => disk.GetProperty("read_reason").GetString() == "changed blocks only")) _tally.Incremental++;
        await _points.AddAsync(KnownPoints.PointOf(point), hashes);
        Note("restore");
    }

    private async Task KillAsync(Victims victims)
    {
        var agentEnds = victims != Victims.Controller ? agent.Service.KillAsync() : Task.CompletedTask;
        var controllerEnds = victims != Victims.Agent ? installation.Controller.KillAsync() : Task.CompletedTask;
        await Task.WhenAll(agentEnds, controllerEnds);
    }

    private async Task RestartAsync(KillPlan plan)
    {
        var agentFirst = plan is { Victims: Victims.Both, AgentFirst: true };
        if (agentFirst) agent.Service.Launch();
        if (plan.Victims != Victims.Agent) await installation.Controller.StartAsync();
        if (agentFirst) await agent.Service.WaitForLineAsync("ready: connected", TimeSpan.FromMinutes(1));
        else if (plan.Victims != Victims.Controller) await agent.Service.StartAsync();
    }

    /// <summary>Waits for the killed job's outcome, which must be true: a recovery point, or one told failure and no point.</summary>
    private async Task SettleAsync(BackupMarks marks, JsonElement job, Stage stage, Dictionary<string, string>? hashes)
    {
        var result = await installation.FollowAsync(job.GetProperty("job_id").GetString()!);
        var point = KnownPoints.PointOf(job);
        var state = result.AnyJson.GetProperty("state").GetString();
        var listed = (await installation.ListPointsAsync()).Contains(point);
        if (listed != (state == "succeeded") || listed != marks.IsCommitted(point) || (stage >= Stage.Releasing && !listed))
        {
            throw new RefutedException($"the backup killed at the stage '{stage}' ended as '{state}'; its point is {(listed ? "" : "not ")}listed, "
                + $"its manifest {(marks.IsCommitted(point) ? "" : "not ")}there: {result.Stderr}");
        }
        if (listed)
        {
            _tally.Committed++;
            Note("follow");
            await _points.AddAsync(point, hashes);
            Note("restore");
            return;
        }
        if (state != "failed" || result.Errors.Count != 1) throw new RefutedException($"the killed backup ended as '{state}': {result.Stderr}");
        _tally.GivenUp++;
        Console.WriteLine($"  the killed backup was given up: {result.Errors[0]}");
    }

    /// <summary>Nothing of broken-off runs is left in QEMU or on the host; one bitmap per disk tracks changes.</summary>
    private async Task RequireTidyAsync()
    {
        var nodes = await BackupMarks.ListNodesAsync(vm);
        var files = Directory.GetFileSystemEntries(agent.FleeceFolder);
        var bitmaps = await Sabotages.ListBitmapsAsync(vm);
        if (nodes.Count > 0 || files.Length > 0 || bitmaps.Count != vm.Disks.Count)
        {
            throw new RefutedException($"left behind: nodes [{string.Join(' ', nodes)}], files [{string.Join(' ', files)}], bitmaps [{string.Join(' ', bitmaps)}]");
        }
    }

    private async Task<JsonElement?> FindJobAsync(DateTimeOffset madeAfter) =>
        (await installation.RunAsync("job", "list")).Json.GetProperty("jobs").EnumerateArray()
            .Where(job => job.GetProperty("create_time").GetDateTimeOffset() >= madeAfter).Select(job => (JsonElement?)job).SingleOrDefault();

    private void Note(string step)
    {
        _steps.Add($"{step} {_step.Elapsed.TotalSeconds:0.0}");
        _step.Restart();
    }

    private void WriteSteps()
    {
        Console.WriteLine($"  seconds: {string.Join(", ", _steps)}");
        _steps.Clear();
    }
}
