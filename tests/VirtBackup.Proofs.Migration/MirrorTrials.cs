using System.Diagnostics;
using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Migration;

/// <summary>
/// Trials of live mirrors on one host: the machine's disks go from folder to folder while it is written to, and whoever is killed or silenced at
/// whatever moment, one machine runs at the end, each of its disks lies in exactly one place and is right, and nothing is left behind.
/// </summary>
internal sealed class MirrorTrials : IAsyncDisposable
{
    private const int Stage = 12, Content = 13;

    /// <summary>In the agent's journal of a move.</summary>
    private const int StageCopying = 0;

    private static readonly TimeSpan EndLimit = TimeSpan.FromMinutes(4);
    private static readonly TimeSpan SettleLimit = TimeSpan.FromMinutes(2);
    private static readonly TimeSpan LookInterval = TimeSpan.FromMilliseconds(2);

    private readonly ProofOptions _options;
    private readonly Installation _installation;
    private readonly InstalledAgent _agent;
    private readonly MirroredMachine _machine;
    private readonly Strikes _strikes = new();
    private int _moved;
    private int _stayed;
    private int _partly;

    private MirrorTrials(ProofOptions options, Installation installation, InstalledAgent agent, MirroredMachine machine) =>
        (_options, _installation, _agent, _machine) = (options, installation, agent, machine);

    public string LastStory { get; private set; } = "";

    public string Figures => $"mirrored={_moved} mirror_stayed={_stayed} mirror_partly={_partly} mirror_struck={_strikes}";

    public static async Task<MirrorTrials> PrepareAsync(ProofOptions options, CancellationToken cancellationToken)
    {
        var machine = await MirroredMachine.StartAsync(MirrorPlan.DiskMebibytes << 20, options.RandomOf(0, Stage), cancellationToken);
        Installation? installation = null;
        try
        {
            (installation, var agent) = await Installation.StartAsync((_, agent) => agent.Append($"machines:\n  - name: {MirroredMachine.Name}\n    uuid: {machine.Uuid}\n    qmp: {machine.QmpPath}\n"));
            await installation.WaitForMachineAsync(MirroredMachine.Name);
            return new MirrorTrials(options, installation, agent, machine);
        }
        catch
        {
            await machine.DisposeAsync();
            if (installation is not null) await installation.DisposeAsync();
            throw;
        }
    }

    public async Task RunAsync(int trial, CancellationToken cancellationToken)
    {
        var plan = MirrorPlan.Of(_options, trial);
        var random = _options.RandomOf(trial, Content);
        var before = _machine.Images.ToList();
        var folder = _installation.File($"mirror-{trial}");
        for (var write = 0; write < 4; write++) await _machine.WriteAsync(random, cancellationToken);
        await using var small = plan.Victim == MirrorVictim.Storage ? await SmallFolder.MountAsync(64, Directory.CreateDirectory(folder).FullName) : null;
        var order = (await _installation.RunAsync("migrate", "run", MirroredMachine.Name, "--to-storage", folder, "--remove-source", "--yes",
            "--rate-limit", $"{plan.MebibytesPerSecond}MiB", "--detach")).Json.GetProperty("job_id").GetString()!;
        var clock = Stopwatch.StartNew();
        await StrikeAsync(plan, order, small, random, clock, cancellationToken);
        var state = await EndAsync(plan, order, clock, cancellationToken);
        await SettleAsync(plan, cancellationToken);
        var moved = Follow(plan, before, folder);
        if (_machine.HasEnded) await _machine.StartAgainAsync();
        _moved += moved == before.Count ? 1 : 0;
        _stayed += moved == 0 ? 1 : 0;
        _partly += moved > 0 && moved < before.Count ? 1 : 0;
        LastStory = $"{plan}: {state}, {moved} of {before.Count} disks moved, after {clock.Elapsed.TotalSeconds:0.0} s";
        await using var planted = await PlantAsync(folder, cancellationToken);
        await CheckAsync(plan, state, moved, before, folder, cancellationToken);
        if (small is not null && moved > 0) await MoveOffAsync(cancellationToken);
    }

    /// <exception cref="RefutedException">Most strikes came too late.</exception>
    public void RequireStrikes() => _strikes.Require("disks were mirrored, or at their change-over");

    public async ValueTask DisposeAsync()
    {
        await _machine.DisposeAsync();
        await _installation.DisposeAsync();
    }

    // The guest writes until something happens.
    private async Task StrikeAsync(MirrorPlan plan, string order, SmallFolder? small, Random random, Stopwatch clock, CancellationToken cancellationToken)
    {
        while (!await IsDueAsync(plan, order, clock))
        {
            if (!plan.AtChangeOver) await _machine.WriteAsync(random, cancellationToken);
            await Task.Delay(LookInterval, cancellationToken);
        }
        if (plan.AtChangeOver && plan.Delay > TimeSpan.Zero) await Task.Delay(plan.Delay, cancellationToken);
        if (plan.Victim != MirrorVictim.Nobody)
        {
            _strikes.Add($"{plan.Victim}", plan.AtChangeOver ? HasReachedChangeOver() == true : !IsEnd(await StateAsync(order)));
        }
        ServiceProcess[] victims = plan.Victim switch
        {
            MirrorVictim.Agent => [_agent.Service],
            MirrorVictim.Controller => [_installation.Controller],
            MirrorVictim.Both => [_installation.Controller, _agent.Service],
            _ => [],
        };
        switch (plan.Victim)
        {
            case MirrorVictim.Machine:
                await _machine.KillAsync(cancellationToken);
                break;
            case MirrorVictim.Link:
                await _agent.Service.FreezeAsync();
                await Task.Delay(plan.Absence, cancellationToken);
                await _agent.Service.ThawAsync();
                break;
            case MirrorVictim.Order:
                await _installation.RunAsync("job", "cancel", order);
                break;
            case MirrorVictim.Storage:
                small!.Fill();
                break;
        }
        foreach (var victim in victims) await victim.KillAsync();
        if (victims.Length > 0) await Task.Delay(plan.Absence, cancellationToken);
        foreach (var victim in victims)
        {
            victim.Launch();
            // An agent that starts first ends the move, and says only then that it is there.
            await victim.WaitForLineAsync(victim == _installation.Controller ? "ready: listening" : "ready: connected", EndLimit);
        }
    }

    private async Task<bool> IsDueAsync(MirrorPlan plan, string order, Stopwatch clock)
    {
        if (!plan.AtChangeOver) return clock.Elapsed >= plan.Delay;
        if (clock.Elapsed > EndLimit) throw new RefutedException($"{plan}: no change-over after {EndLimit.TotalSeconds:0} s");
        if (HasReachedChangeOver() is { } reached) return reached;
        return clock.Elapsed > TimeSpan.FromSeconds(2) && IsEnd(await StateAsync(order));
    }

    /// <summary>Whether the move that goes on no longer merely copies; null: none goes on.</summary>
    private bool? HasReachedChangeOver()
    {
        if (JournalText() is not { } text) return null;
        using var journal = JsonDocument.Parse(text);
        return journal.RootElement.GetProperty("Stage").GetInt32() != StageCopying;
    }

    private static bool IsEnd(string? state) => state is not ("queued" or "running");

    private string? JournalText()
    {
        try
        {
            return Directory.Exists(StateFolder) && Directory.GetFiles(StateFolder, "moving-*.json") is [var path] ? File.ReadAllText(path) : null;
        }
        catch (IOException)
        {
            return null; // it goes, or is written, just now
        }
    }

    private string StateFolder => Path.Combine(_agent.Home, "machines");

    private async Task<string?> StateAsync(string order) => (await _installation.RunAsync("migrate", "show", order)).Json.GetProperty("state").GetString();

    private async Task<string> EndAsync(MirrorPlan plan, string order, Stopwatch clock, CancellationToken cancellationToken)
    {
        while (true)
        {
            if (await StateAsync(order) is { } state && IsEnd(state)) return state;
            if (clock.Elapsed > EndLimit) throw new RefutedException($"{plan}: the order is at no end after {EndLimit.TotalSeconds:0} s");
            await Task.Delay(50, cancellationToken);
        }
    }

    // An order that is given up ends before the agent has tidied up.
    private async Task SettleAsync(MirrorPlan plan, CancellationToken cancellationToken)
    {
        var clock = Stopwatch.StartNew();
        while (JournalText() is not null || (Directory.Exists(_agent.FleeceFolder) && Directory.EnumerateFileSystemEntries(_agent.FleeceFolder).Any()))
        {
            if (clock.Elapsed > SettleLimit) throw new RefutedException($"{plan}: the move is not tidied up after {SettleLimit.TotalSeconds:0} s: {JournalText() ?? string.Join(' ', Directory.GetFileSystemEntries(_agent.FleeceFolder))}");
            await Task.Delay(20, cancellationToken);
        }
    }

    private int Follow(MirrorPlan plan, List<string> before, string folder)
    {
        var moved = 0;
        foreach (var (disk, old) in before.Index())
        {
            var there = Path.Combine(folder, Path.GetFileName(old));
            if (File.Exists(old) == File.Exists(there)) throw new RefutedException($"{plan}: disk {disk} lies {(File.Exists(old) ? "in both places" : "in neither place")}: {old}, {there}");
            if (!File.Exists(there)) continue;
            _machine.FollowMove(disk, there);
            moved++;
        }
        return moved;
    }

    private async Task CheckAsync(MirrorPlan plan, string state, int moved, List<string> before, string folder, CancellationToken cancellationToken)
    {
        var story = $"{plan}, {state}, {moved} disks moved";
        if (plan.Victim == MirrorVictim.Nobody && (state != "succeeded" || moved < before.Count)) throw new RefutedException($"{story}: nobody was killed");
        if (state == "succeeded" && moved < before.Count) throw new RefutedException($"{story}: it is told to have succeeded");
        if (RestoredVm.ProcessesNaming($"{_machine.Uuid}") is var processes && processes.Count != 1) throw new RefutedException($"{story}: {processes.Count} processes have the machine's UUID");
        if (await _machine.ReadStatusAsync(cancellationToken) is not "running" and var status) throw new RefutedException($"{story}: the machine does not run: {status ?? "no answer"}");
        if (await _machine.FindDifferenceAsync(plan.Victim == MirrorVictim.Machine, cancellationToken) is { } difference) throw new RefutedException($"{story}: {difference} does not hold what was written to it");
        var used = await UsedFilesAsync(cancellationToken);
        if (!used.SetEquals(_machine.Images)) throw new RefutedException($"{story}: QEMU has other files open: {string.Join(", ", used)}");
        if ((await _machine.AskAsync("query-jobs", null, cancellationToken)).GetArrayLength() > 0) throw new RefutedException($"{story}: QEMU still copies");
        var left = before.Select(static path => Path.GetDirectoryName(path)!).Append(folder).Where(Directory.Exists).Distinct().SelectMany(Directory.GetFiles)
            .Where(path => !_machine.Images.Contains(path) && IsSuspicious(path)).ToList();
        if (left.Count > 0 || (moved == 0 && plan.Victim != MirrorVictim.Storage && Directory.Exists(folder))) throw new RefutedException($"{story}: something is left behind: {string.Join(", ", left.DefaultIfEmpty(folder))}");
    }

    // The machine's own folder holds its sockets and what the proof writes; a launch record is meant to stay.
    private static bool IsSuspicious(string path) => Path.GetFileName(path) is var name && (name.Contains("one.qcow2", StringComparison.Ordinal) || name.Contains("two.raw", StringComparison.Ordinal) || name.Contains("virtbackup", StringComparison.Ordinal));

    private async Task<HashSet<string>> UsedFilesAsync(CancellationToken cancellationToken) =>
        [.. (await _machine.AskAsync("query-named-block-nodes", new System.Text.Json.Nodes.JsonObject { ["flat"] = true }, cancellationToken)).EnumerateArray().Select(static node => node.GetProperty("file").GetString()!)];

    // Its folder goes with the trial.
    private async Task MoveOffAsync(CancellationToken cancellationToken)
    {
        var folder = _installation.File($"off-{Guid.NewGuid():N}");
        (await _installation.RunAsync("migrate", "run", MirroredMachine.Name, "--to-storage", folder, "--remove-source", "--yes")).EnsureSuccess();
        foreach (var (disk, old) in _machine.Images.ToList().Index()) _machine.FollowMove(disk, Path.Combine(folder, Path.GetFileName(old)));
        if (await _machine.FindDifferenceAsync(false, cancellationToken) is { } difference) throw new RefutedException($"after a move back from a full storage {difference} does not hold what was written to it");
    }

    /// <summary>The planted fault, which goes with what is returned.</summary>
    private async Task<IAsyncDisposable> PlantAsync(string folder, CancellationToken cancellationToken)
    {
        switch (_options.Sabotage)
        {
            case FaultTrials.SecondCopy:
                return BackgroundProc.Start(LabVm.Program, ["-machine", "q35,accel=tcg", "-m", "64", "-uuid", $"{_machine.Uuid}", "-nodefaults", "-display", "none", "-S"]);
            case FaultTrials.LeftFile:
                await File.WriteAllTextAsync(Path.Combine(Directory.CreateDirectory(folder).FullName, "one.qcow2.left"), "left", cancellationToken);
                break;
            case FaultTrials.LostWrite:
                // What the machine itself writes unseen is as good as what it lost.
                await _machine.SpoilAsync(cancellationToken);
                break;
        }
        return Nothing.Instance;
    }

    private sealed class Nothing : IAsyncDisposable
    {
        public static readonly Nothing Instance = new();

        public ValueTask DisposeAsync() => ValueTask.CompletedTask;
    }
}
