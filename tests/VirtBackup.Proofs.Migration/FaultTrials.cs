using System.Diagnostics;
using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Migration;

/// <summary>Trials on one pair of hosts: the machine goes to and fro, and each finds it where the one before left it.</summary>
internal sealed class FaultTrials : IAsyncDisposable
{
    public const string SecondCopy = "second-copy";
    public const string LostWrite = "lost-write";
    public const string LeftFile = "left-file";

    private const int DiskBytes = 24 << 20;
    private const int WriteBytesMax = 256 << 10;
    private const int Stage = 2, Content = 3;
    private static readonly TimeSpan EndLimit = TimeSpan.FromMinutes(8);

    private readonly ProofOptions _options;
    private readonly Hosts _hosts;
    private readonly Dictionary<string, int> _outcomes = new(StringComparer.Ordinal);
    private readonly Strikes _strikes = new();

    private FaultTrials(ProofOptions options, Hosts hosts) => (_options, _hosts) = (options, hosts);

    public string LastStory { get; private set; } = "";

    public string Figures => $"moved={_outcomes.GetValueOrDefault("succeeded")} stayed={_outcomes.GetValueOrDefault("failed")} struck={_strikes}";

    public static async Task<FaultTrials> PrepareAsync(ProofOptions options, CancellationToken cancellationToken) =>
        new(options, await Hosts.StartAsync(DiskBytes, options.RandomOf(0, Stage), cancellationToken));

    public async Task RunAsync(int trial, CancellationToken cancellationToken)
    {
        var plan = FaultPlan.Of(_options, trial);
        var random = _options.RandomOf(trial, Content);
        var (place, home, firstImage) = (_hosts.Place, _hosts.Machine.Home, _hosts.Machine.Image);
        await _hosts.Machine.WriteAsync(random, WriteBytesMax, cancellationToken);
        var (migration, folder) = await _hosts.BeginAsync(trial, plan.Cold, "--remove-source", "--yes");
        var clock = Stopwatch.StartNew();
        await DisturbAsync(plan, migration, random, clock, cancellationToken);
        var done = await EndAsync(migration, plan, clock, cancellationToken);
        var state = done.GetProperty("state").GetString()!;
        if (state == "succeeded")
        {
            _hosts.Place = _hosts.Other;
            _hosts.Machine.MovedTo(folder);
        }
        _outcomes[state] = _outcomes.GetValueOrDefault(state) + 1;
        LastStory = $"{plan}: {state} after {clock.Elapsed.TotalSeconds:0.0} s{(done.GetProperty("failure").GetString() is { } failure ? $" ({failure})" : "")}";
        var left = state == "succeeded" ? (home == _hosts.Machine.FirstHome ? firstImage : home) : folder;
        await using var planted = await PlantAsync(left, cancellationToken);
        await CheckAsync(plan, place, state, left, cancellationToken);
    }

    /// <exception cref="RefutedException">Most strikes came too late.</exception>
    public void RequireStrikes() => _strikes.Require("a migration went on");

    public ValueTask DisposeAsync() => _hosts.DisposeAsync();

    // Writes go on until the first increment is being copied, so that they are in the full copy, that one, or the last.
    private async Task DisturbAsync(FaultPlan plan, string migration, Random random, Stopwatch clock, CancellationToken cancellationToken)
    {
        var (writes, struck, due) = (plan.Cold ? 0 : plan.Writes, plan.Victim == Victim.Nobody, (TimeSpan?)null);
        while (writes > 0 || !struck)
        {
            if (clock.Elapsed > EndLimit) throw new RefutedException($"{plan}: the migration is at no end after {EndLimit.TotalSeconds:0} s");
            var shown = await _hosts.ShowAsync(migration);
            var isOver = !IsRunning(shown);
            var step = isOver ? FaultPlan.Steps.Length : FaultPlan.IndexOf(shown.GetProperty("step").GetString()!);
            if (step > FaultPlan.IndexOf("round 1: copying")) writes = 0;
            if (isOver && !struck)
            {
                struck = true;
                _strikes.Add($"{plan.Victim}", hit: false);
            }
            if (writes-- > 0) await _hosts.Machine.WriteAsync(random, WriteBytesMax, cancellationToken);
            if (!struck && step >= plan.Step)
            {
                due ??= clock.Elapsed + plan.Delay;
                if (writes > 0 && clock.Elapsed < due) continue;
                if (due - clock.Elapsed is { Ticks: > 0 } wait) await Task.Delay(wait, cancellationToken);
                writes = 0;
                struck = true;
                _strikes.Add($"{plan.Victim}", IsRunning(await _hosts.ShowAsync(migration)));
                await StrikeAsync(plan, cancellationToken);
            }
        }
    }

    private static bool IsRunning(JsonElement shown) => shown.GetProperty("state").GetString() == "running";

    private async Task StrikeAsync(FaultPlan plan, CancellationToken cancellationToken)
    {
        var (source, target, controller) = (_hosts[_hosts.Place].Service, _hosts[_hosts.Other].Service, _hosts.Installation.Controller);
        if (plan.Victim == Victim.ImageServers)
        {
            foreach (var server in RestoredVm.ProcessesNaming(_hosts.Installation.Folder, "qemu-nbd")) await Proc.RunAsync("kill", ["-KILL", $"{server}"], cancellationToken: cancellationToken);
            return;
        }
        if (plan.Victim is Victim.SourceLink or Victim.TargetLink)
        {
            var silent = plan.Victim == Victim.SourceLink ? source : target;
            await silent.FreezeAsync();
            await Task.Delay(plan.Absence, cancellationToken);
            await silent.ThawAsync();
            return;
        }
        ServiceProcess[] victims = plan.Victim switch
        {
            Victim.SourceAgent => [source],
            Victim.TargetAgent => [target],
            Victim.Controller => [controller],
            Victim.BothAgents => [source, target],
            _ => [controller, source, target],
        };
        foreach (var victim in victims) await victim.KillAsync();
        await Task.Delay(plan.Absence, cancellationToken);
        // An agent waits for its controller as long as it takes.
        foreach (var victim in victims) await victim.StartAsync();
    }

    private async Task<JsonElement> EndAsync(string migration, FaultPlan plan, Stopwatch clock, CancellationToken cancellationToken)
    {
        while (true)
        {
            var shown = await _hosts.ShowAsync(migration);
            if (!IsRunning(shown)) return shown;
            if (clock.Elapsed > EndLimit) throw new RefutedException($"{plan}: the migration is at '{shown.GetProperty("step").GetString()}' still after {EndLimit.TotalSeconds:0} s");
            await Task.Delay(100, cancellationToken);
        }
    }

    private async Task CheckAsync(FaultPlan plan, string before, string state, string left, CancellationToken cancellationToken)
    {
        var machine = _hosts.Machine;
        var story = $"{plan} from {before}, {state}";
        if (plan.Victim == Victim.Nobody && state != "succeeded") throw new RefutedException($"{story}: nobody was killed, and it did not move: {LastStory}");
        if (machine.Processes is not [var one]) throw new RefutedException($"{story}: {machine.Processes.Count} processes have the machine's UUID");
        if (await machine.ReadStatusAsync(cancellationToken) is not "running" and var status) throw new RefutedException($"{story}: process {one} does not run the machine: {status ?? "no answer"}");
        if (!await machine.HoldsWhatWasWrittenAsync(cancellationToken)) throw new RefutedException($"{story}: the disk does not hold what was written to it");
        var remains = new[] { left, left + ".virtbackup-retired", left + ".virtbackup-restoring" }.Where(static path => Directory.Exists(path) || File.Exists(path)).ToList();
        if (remains.Count > 0) throw new RefutedException($"{story}: something is left behind: {string.Join(", ", remains)}");
        await Installation.PollAsync("the list that tells where the machine is", async () =>
            (await _hosts.Installation.RunAsync("vm", "list")).Json.GetProperty("virtual_machines").EnumerateArray().Any(vm => vm.GetProperty("agent").GetString() == _hosts.Place && vm.GetProperty("running").GetBoolean()));
    }

    /// <summary>The planted fault, which goes with what is returned.</summary>
    private async Task<IAsyncDisposable> PlantAsync(string left, CancellationToken cancellationToken)
    {
        switch (_options.Sabotage)
        {
            case SecondCopy:
                return BackgroundProc.Start(LabVm.Program, ["-machine", "q35,accel=tcg", "-m", "64", "-uuid", $"{_hosts.Machine.Uuid}", "-nodefaults", "-display", "none", "-S"]);
            case LeftFile:
                await File.WriteAllTextAsync(left + ".virtbackup-retired", "left", cancellationToken);
                break;
            case LostWrite:
                // What the machine itself writes unseen is as good as what it lost.
                await _hosts.Machine.SpoilAsync(cancellationToken);
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
