using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.KillController;

/// <summary>An operator who orders everything at once, and a hand that kills the controller meanwhile.</summary>
internal sealed class KillRun(Installation installation, Machine[] machines, ProofOptions options)
{
    // A backup lasts two seconds, a scrub as well, so that the kill hits all of them together.
    private const string BackupRate = "4MiB";
    private const string ScrubRate = "4MiB";
    private const int PointsKept = 4;
    private const int FullCheckEvery = 10;
    private const int UnreachableExitCode = 3;
    private const int AsksMax = 10;
    private const int UnaimedOneIn = 4;
    private const int CollectionsMax = 4;

    /// <summary>What the controller's log says when it has taken the order.</summary>
    private const string CollectionBegins = "Collection job";
    private static readonly TimeSpan CollectionLasts = TimeSpan.FromMilliseconds(80);
    private static readonly TimeSpan ArrivalLimit = TimeSpan.FromMinutes(1);
    private static readonly TimeSpan DelayMax = TimeSpan.FromMilliseconds(1500);

    private readonly Promises _promises = new();
    private readonly Tally _tally = new();
    private int _collections;
    private int _backupsFailed;
    private int _restores;

    public string Figures => $"{_tally}; {_promises.Points} points committed, {_promises.Forgotten} forgotten, {_backupsFailed} backups given up, {_collections} collections, {_restores} restores";

    public async Task BeginAsync()
    {
        foreach (var machine in machines)
        {
            var point = await installation.BackUpAsync(machine.Name);
            _promises.Add(point.GetProperty("point_id").GetString()!, machine, machine.Hash);
        }
    }

    public async Task KillAsync(int trial)
    {
        var random = options.RandomOf(trial, 0);
        foreach (var machine in machines) machine.Change(random);
        var begun = DateTimeOffset.UtcNow;
        using var dead = new CancellationTokenSource();
        Task[] asked = [.. machines.Select(OrderBackupAsync), installation.RunAsync("repository", "scrub", "--rate-limit", ScrubRate, "--detach"), ForgetAsync(dead.Token)];
        var isAimed = random.Next(UnaimedOneIn) > 0;
        if (isAimed)
        {
            await Task.WhenAll(asked);
            await WaitForReadingAsync(begun);
        }
        var collecting = CollectAsync(isAimed ? 1 : CollectionsMax, dead.Token);
        // A collection is soon over; the orders take a moment to arrive.
        await (isAimed ? (Task)installation.Controller.WaitForLineAsync(CollectionBegins, ArrivalLimit) : Task.WhenAny(asked[..machines.Length]));
        await Task.Delay((isAimed ? CollectionLasts : DelayMax) * random.NextDouble(), CancellationToken.None);
        await installation.Controller.KillAsync();
        var killed = DateTimeOffset.UtcNow;
        await dead.CancelAsync();
        await Task.WhenAll([.. asked, collecting]);
        if (trial == options.StartTrial) await Sabotages.PlantAsync(options.Sabotage, installation, _promises.KeptOf(machines[0])[^1]);
        await installation.Controller.StartAsync();
        await SettleAsync(trial, begun, killed);
        _promises.Require(await ListPointsAsync());
        if (options.Sabotage is not null || (trial - options.StartTrial + 1) % FullCheckEvery == 0) await RequireWholeAsync();
    }

    /// <summary>Everything that was promised is whole, what was let go is gone, and the counts are those of an audit.</summary>
    /// <exception cref="RefutedException">It is not so.</exception>
    public async Task RequireWholeAsync()
    {
        foreach (var point in _promises.Open)
        {
            // The answer was lost, or the order.
            var forgotten = await AskAsync("recovery-point", "forget", point);
            if (forgotten.ExitCode is 0 or 5) _promises.Forget(point);
            else throw new RefutedException($"The recovery point {point} cannot be forgotten: {forgotten.Stderr}");
        }
        // Purged and released, looked at, looked at again, emptied.
        for (var i = 0; i < 3; i++) await RequireSucceededAsync("repository", "gc");
        var audit = (await RequireSucceededAsync("repository", "gc", "--audit")).GetProperty("result").GetProperty("collection").GetProperty("audit");
        if (audit.GetProperty("counted_too_often").GetInt64() > 0) throw new RefutedException($"The index counts more than there is: {audit}");
        await RequireSucceededAsync("repository", "verify", "--full");
        var listed = await ListPointsAsync();
        _promises.Require(listed);
        var status = await RequireSucceededAsync("repository", "status");
        var kept = (await ListPointsAsync("--forgotten")).Except(listed).ToList();
        if (kept.Count > 0) throw new RefutedException($"Forgotten recovery points are never purged: {string.Join(", ", kept)}");
        RequireFiles(listed, status.GetProperty("packs").GetInt64());
        var random = options.RandomOf(_restores, 1);
        foreach (var points in machines.Select(_promises.KeptOf)) await RequireRestorableAsync(points[random.Next(points.Count)]);
    }

    /// <summary>Nothing is left in the store that the controller does not list.</summary>
    private void RequireFiles(IReadOnlyList<string> listed, long packs)
    {
        var manifests = Directory.EnumerateFiles(Path.Combine(installation.Repository, "recovery-points"), "*.vbm", SearchOption.AllDirectories)
            .Select(Path.GetFileNameWithoutExtension).ToList();
        var half = manifests.Except(listed).ToList();
        // Of a point that was given up a note is left where its manifest would be: no manifest can come there any more.
        if (half.Exists(point => _promises.Knows(point!))) throw new RefutedException($"Forgotten recovery points have left manifests: {string.Join(", ", half)}");
        var stored = Directory.EnumerateFiles(Path.Combine(installation.Repository, "packs"), "*.vbp", SearchOption.AllDirectories).Count();
        if (stored != packs) throw new RefutedException($"{stored} packs are stored, and the controller lists {packs}.");
    }

    private async Task RequireRestorableAsync(string point)
    {
        var folder = $"r{_restores++}";
        var disks = await installation.RestoreDisksAsync(point, folder, "--format", "raw");
        if (Machine.HashOf(disks.Values.Single()) != _promises.HashOf(point)) throw new RefutedException($"The recovery point {point} is not what its machine held.");
        Directory.Delete(installation.File(folder), recursive: true);
    }

    private async Task<IReadOnlyList<string>> ListPointsAsync(params string[] more) =>
        [.. (await RequireSucceededAsync(["recovery-point", "list", .. more])).GetProperty("recovery_points").EnumerateArray().Select(point => point.GetProperty("point_id").GetString()!)];

    /// <summary>Asks a controller that runs; on a busy machine it may be late.</summary>
    private async Task<CommandResult> AskAsync(params string[] command)
    {
        for (var tries = 1; ; tries++)
        {
            var result = await installation.RunAsync(command);
            if (result.ExitCode != UnreachableExitCode || tries == AsksMax || !installation.Controller.IsRunning) return result;
        }
    }

    private async Task<JsonElement> RequireSucceededAsync(params string[] command)
    {
        var result = await AskAsync(command);
        return result.ExitCode == 0 ? result.Json : throw new RefutedException($"'{string.Join(' ', command)}' ended with exit code {result.ExitCode}: {result.Stderr}{result.Stdout}");
    }

    /// <summary>Waits until every backup that the kill hit is over, and notes what became of it.</summary>
    private async Task SettleAsync(int trial, DateTimeOffset begun, DateTimeOffset killed)
    {
        // Read before anything of it ends: what ran when the kill came has no end yet, or was ended by the restart.
        var jobs = await ListJobsAsync(begun);
        List<(string Kind, string? Phase)> running = [.. jobs.Where(job => EndOf(job) is not { } end || end > killed).Select(job => (KindOf(job), PhaseOf(job)))];
        _tally.Count(running);
        Console.WriteLine($"trial {trial}: killed during {string.Join(", ", running.Select(job => $"{job.Kind} ({job.Phase ?? "beginning"})"))}");
        foreach (var job in jobs.Where(job => KindOf(job) == "backup"))
        {
            var over = (await AskAsync("job", "show", job.GetProperty("job_id").GetString()!, "--watch")).AnyJson;
            if (over.GetProperty("state").GetString() != "succeeded")
            {
                _backupsFailed++;
                Console.WriteLine($"  given up: {over.GetProperty("failure")}");
                continue;
            }
            var machine = machines.Single(machine => machine.Name == over.GetProperty("vm").GetString());
            _promises.Add(over.GetProperty("point_id").GetString()!, machine, machine.Hash);
        }
    }

    /// <summary>Waits until both backups send, or are over already.</summary>
    private Task WaitForReadingAsync(DateTimeOffset begun) => Installation.PollAsync("the phase reading", async () =>
        (await ListJobsAsync(begun)).Where(job => KindOf(job) == "backup").All(job => EndOf(job) is not null || PhaseOf(job) is "reading"));

    private async Task<IReadOnlyList<JsonElement>> ListJobsAsync(DateTimeOffset since) =>
        [.. (await RequireSucceededAsync("job", "list")).GetProperty("jobs").EnumerateArray().Where(job => job.GetProperty("create_time").GetDateTimeOffset() >= since.AddMilliseconds(-1))];

    private static string KindOf(JsonElement job) => job.GetProperty("kind").GetString()!;

    private static DateTimeOffset? EndOf(JsonElement job) => job.GetProperty("end_time") is { ValueKind: JsonValueKind.String } end ? end.GetDateTimeOffset() : null;

    private static string? PhaseOf(JsonElement job) => job.GetProperty("progress") is { ValueKind: JsonValueKind.Object } progress ? progress.GetProperty("phase").GetString() : null;

    private Task OrderBackupAsync(Machine machine) => installation.RunAsync("backup", "run", machine.Name, "--detach", "--rate-limit", BackupRate);

    /// <summary>Collects again and again, as long as the controller lives.</summary>
    private async Task CollectAsync(int times, CancellationToken dead)
    {
        for (; times > 0 && !dead.IsCancellationRequested; times--)
        {
            if ((await installation.RunAsync("repository", "gc", "--detach")).ExitCode == 0) _collections++;
        }
    }

    /// <summary>Forgets the oldest points of which there are enough.</summary>
    private async Task ForgetAsync(CancellationToken dead)
    {
        foreach (var point in machines.SelectMany(machine => _promises.KeptOf(machine).SkipLast(PointsKept)).ToList())
        {
            if (dead.IsCancellationRequested) return;
            _promises.Ask(point);
            if ((await installation.RunAsync("recovery-point", "forget", point)).ExitCode == 0) _promises.Forget(point);
        }
    }
}
