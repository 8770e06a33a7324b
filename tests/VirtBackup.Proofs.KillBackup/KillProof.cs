using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Proofs.KillBackup;

/// <summary>The claim under proof does not hold.</summary>
internal sealed class Refuted(string message) : Exception(message);

/// <summary>
/// A guest that writes all the time, an agent, a controller, and a hand that kills them in the middle of backups. Every
/// recovery point whose content is known (a paused machine's disks, hashed past the product) must be restored equal.
/// </summary>
internal sealed class KillProof(LabVm vm, Installation installation, InstalledAgent agent, Options options)
{
    private const string Machine = "writer";
    private const string Rate = "4MiB";
    private const int DelayMaxMs = 5000;
    private readonly List<(string Point, Dictionary<string, string> Hashes)> _known = [];
    private int _folders;

    public int Kills { get; private set; }

    public int Committed { get; private set; }

    public int GivenUp { get; private set; }

    public int Restored { get; private set; }

    /// <summary>Sets the stage and runs all trials.</summary>
    public static async Task<string> RunAsync(Options options)
    {
        var guest = await LabGuest.GetAsync();
        await using var vm = await LabVm.BootAsync(new LabVmOptions
        {
            Name = Machine,
            Disks =
            [
                new LabDiskOptions { NodeName = "root", CopyFrom = guest.RootDisk },
                new LabDiskOptions { NodeName = "data", CopyFrom = guest.DataDisk, Format = LabDiskFormat.Raw },
            ],
        });
        var (installation, agent) = await Installation.StartAsync((_, agent) => agent.Add(vm));
        await using var _ = installation;
        await installation.WaitForMachineAsync(Machine);
        var proof = new KillProof(vm, installation, agent, options);
        await proof.BeginAsync();
        for (var trial = options.StartTrial; trial < options.StartTrial + options.Trials; trial++)
        {
            try
            {
                await proof.TryAsync(trial);
            }
            catch (Exception failure)
            {
                throw new Refuted($"trial {trial}: {failure.Message}");
            }
        }
        foreach (var (point, hashes) in proof._known.ToArray()) await proof.RequireEqualAsync(point, hashes);
        await proof.RequireCleanAsync();
        return $"trials={options.Trials} kills={proof.Kills} committed={proof.Committed} given-up={proof.GivenUp} points={proof._known.Count} restores={proof.Restored}";
    }

    private async Task BeginAsync()
    {
        (await vm.ExecAsync("dd if=/dev/zero of=/data/w bs=1M count=48 2>/dev/null; sync; " +
            "(n=0; while :; do dd if=/dev/urandom of=/data/w bs=64k count=4 seek=$((n * 4)) conv=notrunc; sync; n=$(((n + 7) % 190)); sleep 0.3; done) </dev/null >/dev/null 2>&1 &"))
            .EnsureSuccess();
        await BackUpPausedAsync();
        if (options.Sabotage == Sabotages.DamagePack) Sabotages.DamagePackOf(installation);
    }

    private async Task TryAsync(int trial)
    {
        var chance = new Chance(options.Seed, trial);
        var victims = chance.Below(3);
        var delay = TimeSpan.FromMilliseconds(chance.Below(DelayMaxMs));
        var paused = chance.Below(2) == 0;
        Console.WriteLine($"trial {trial}: kill {(victims == 0 ? "the agent" : victims == 1 ? "the controller" : "both")} after {delay.TotalMilliseconds:0} ms, guest {(paused ? "paused" : "running")}");

        await WriteAsync(chance);
        // With the guest paused throughout, every attempt of the killed backup cuts the same known content.
        var hashes = paused ? await PauseAndHashAsync() : null;
        var job = (await installation.RunAsync("backup", "run", Machine, "--detach", "--rate-limit", Rate)).Json.GetProperty("job_id").GetString()!;
        await Task.Delay(delay);
        await KillAsync(victims);
        await RestartAsync(victims, agentFirst: chance.Below(2) == 0);
        await SettleAsync(job, hashes);
        if (paused) await vm.QmpAsync("cont");

        // Whatever the kill left: nothing that the guest wrote before or after it is missed by the next backup.
        await WriteAsync(chance);
        if (options.Sabotage == Sabotages.ForgetWrites) await Sabotages.ForgetWritesAsync(vm);
        await installation.WaitForMachineAsync(Machine);
        var (point, known) = await BackUpPausedAsync();
        await RequireEqualAsync(point, known);
        var (earlier, content) = _known[chance.Below(_known.Count)];
        await RequireEqualAsync(earlier, content);
        await RequireCleanAsync();
    }

    private async Task WriteAsync(Chance chance) =>
        (await vm.ExecAsync($"dd if=/dev/urandom of=/data/x{chance.Below(4)} bs=1M count={4 + chance.Below(6)} conv=notrunc 2>/dev/null; sync")).EnsureSuccess();

    private async Task<Dictionary<string, string>> PauseAndHashAsync()
    {
        await vm.QmpAsync("stop");
        var hashes = new Dictionary<string, string>();
        foreach (var disk in vm.Disks) hashes[disk.DeviceId] = await LabDisk.Sha256Async(disk.Path, disk.Format, inUse: true);
        return hashes;
    }

    private async Task<(string Point, Dictionary<string, string> Hashes)> BackUpPausedAsync()
    {
        var hashes = await PauseAndHashAsync();
        var point = PointOf(await installation.BackUpAsync(Machine));
        await vm.QmpAsync("cont");
        _known.Add((point, hashes));
        return _known[^1];
    }

    private async Task KillAsync(int victims)
    {
        Kills++;
        if (victims != 1) await agent.Service.KillAsync();
        if (victims != 0) await installation.Controller.KillAsync();
    }

    private async Task RestartAsync(int victims, bool agentFirst)
    {
        if (victims == 2 && agentFirst) agent.Service.Launch();
        if (victims != 0) await installation.Controller.StartAsync();
        if (victims == 2 && agentFirst) await agent.Service.WaitForLineAsync("ready: connected", TimeSpan.FromMinutes(1));
        else if (victims != 1) await agent.Service.StartAsync();
    }

    /// <summary>Waits for the killed job's outcome: a recovery point, which is remembered if its content is known, or one told failure.</summary>
    private async Task SettleAsync(string job, Dictionary<string, string>? hashes)
    {
        var result = await installation.FollowAsync(job);
        var view = result.AnyJson;
        var state = view.GetProperty("state").GetString();
        if (state == "succeeded")
        {
            Committed++;
            if (hashes is not null) _known.Add((PointOf(view.GetProperty("result").GetProperty("backup")), hashes));
            return;
        }
        if (state != "failed" || result.Errors.Count != 1) throw new Refuted($"the killed backup ended as '{state}': {result.Stderr}");
        GivenUp++;
        Console.WriteLine($"  the killed backup was given up: {result.Errors[0]}");
    }

    private async Task RequireEqualAsync(string point, Dictionary<string, string> hashes)
    {
        var folder = $"r{_folders++}";
        var restored = await installation.RestoreDisksAsync(point, folder);
        if (options.Sabotage == Sabotages.MissRange) await Sabotages.MissRangeAsync(restored["disk-data"]);
        foreach (var (disk, hash) in hashes)
        {
            var image = restored.GetValueOrDefault(disk) ?? throw new Refuted($"point {point} was restored without {disk}");
            var format = image.EndsWith(".raw", StringComparison.Ordinal) ? LabDiskFormat.Raw : LabDiskFormat.Qcow2;
            if (await LabDisk.Sha256Async(image, format) != hash) throw new Refuted($"{disk} of point {point} is not what the machine held at its cut");
        }
        Restored++;
        Directory.Delete(installation.File(folder), recursive: true);
    }

    private async Task RequireCleanAsync()
    {
        var verified = await installation.RunAsync("repository", "verify", "--full");
        if (verified.ExitCode != 0) throw new Refuted($"the repository is not clean: {verified.Stderr}{verified.Stdout}");
        var listed = await installation.ListPointsAsync();
        var lost = _known.Select(known => known.Point).Except(listed).ToList();
        if (lost.Count > 0) throw new Refuted($"committed points are gone: {string.Join(", ", lost)}");
    }

    private static string PointOf(JsonElement point) => point.GetProperty("point_id").GetString()!;
}
