using System.Diagnostics;
using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.PlanCalibration.Restores;

/// <summary>Real restores by the real programs, one to four at once, under loads that come and go between the waves.</summary>
internal sealed class RestoreWaves : IAsyncDisposable
{
    private const int ParallelMax = 4;
    private const int RecordMax = 50;
    private const double LoadChangesIn = 0.4;
    private const int MiB = 1 << 20;
    private readonly ProofOptions _options;
    private readonly Installation _installation;
    private readonly InstalledAgent _agent;
    private readonly List<string> _points = [];
    private (LoadKind Kind, int Strength) _load;
    private int _restores;

    private RestoreWaves(ProofOptions options, Installation installation, InstalledAgent agent) => (_options, _installation, _agent) = (options, installation, agent);

    public RestoreTally Tally { get; } = new();

    /// <summary>Sets the stage: machines of several sizes, each backed up.</summary>
    public static async Task<RestoreWaves> StartAsync(ProofOptions options)
    {
        int[] sizes = options.Short ? [6, 24] : [4, 12, 32, 80];
        var (installation, agent) = await Installation.StartAsync((installation, agent) =>
        {
            foreach (var size in sizes)
            {
                var image = installation.File($"m{size}.raw");
                WriteImage(image, size, options.RandomOf(size, 1));
                agent.Add($"m{size}", Guid.NewGuid(), new InstalledImage(image, LabDiskFormat.Raw, "disk"));
            }
        });
        var waves = new RestoreWaves(options, installation, agent);
        try
        {
            await installation.WaitForMachineAsync($"m{sizes[^1]}");
            foreach (var size in sizes) waves._points.Add((await installation.BackUpAsync($"m{size}")).GetProperty("point_id").GetString()!);
            return waves;
        }
        catch
        {
            await waves.DisposeAsync();
            throw;
        }
    }

    public async Task RunAsync(int trial, CancellationToken cancellationToken)
    {
        var random = _options.RandomOf(trial, 0);
        if (random.NextDouble() < LoadChangesIn) _load = ((LoadKind)random.Next(4), random.Next(1, 4));
        var parallel = random.Next(2) == 0 ? 1 : random.Next(2, ParallelMax + 1);
        var format = !_options.Short && random.Next(5) == 0 ? "qcow2" : "raw";
        await using (new HostLoad(_load.Kind, _load.Strength, _installation.Folder, _agent.Service))
        {
            await Task.WhenAll(Enumerable.Range(0, parallel).Select(_ => RestoreAsync(_points[random.Next(_points.Count)], $"r{_restores++}", format, _load.Kind, parallel)).ToList());
        }
        cancellationToken.ThrowIfCancellationRequested();
        if (!_options.Short) Console.WriteLine($"trial {trial}: {_load.Kind} {_load.Strength}, {parallel} side by side: {Tally}");
    }

    /// <summary>The plan's own record is what really came of the estimates.</summary>
    /// <exception cref="RefutedException">It is not.</exception>
    public async Task RequireRecordAsync()
    {
        var plan = (await _installation.RunAsync("restore", "plan", _points[0], "--folder", _installation.File("plan"), "--no-start", "--format", "raw")).Json.GetProperty("result").GetProperty("restore_check");
        var estimate = plan.GetProperty("estimate");
        var own = Tally.Restores.Where(restore => restore.Path == estimate.GetProperty("path").GetString()).ToList();
        var record = estimate.GetProperty("record");
        if (record.GetProperty("scored").GetInt32() != Math.Min(RecordMax, own.Count))
        {
            throw new RefutedException($"{own.Count} restores were made on this path, and the plan's record knows {record.GetProperty("scored")}.");
        }
        // Of restores that ran side by side the proof does not know which was estimated first.
        if (own.Count <= RecordMax && record.GetProperty("within_p90").GetInt32() != own.Count(restore => restore.Held))
        {
            throw new RefutedException($"{own.Count(restore => restore.Held)} of {own.Count} estimates held, and the plan's record says {record.GetProperty("within_p90")}.");
        }
        if (plan.GetProperty("findings").EnumerateArray().All(finding => finding.GetProperty("verdict").GetString() != "unknown"))
        {
            throw new RefutedException("The plan of a machine of image files does not say what of it is unknown.");
        }
        await RequireRefusalAsync("folder", Directory.CreateDirectory(_installation.File("full")).FullName);
        await RequireRefusalAsync("folder", Path.Combine(_installation.File("nowhere"), "new"));
    }

    public async ValueTask DisposeAsync() => await _installation.DisposeAsync();

    /// <summary>What blocks is told by the plan and by the restore, through all programs, and nothing is written.</summary>
    private async Task RequireRefusalAsync(string item, string folder)
    {
        if (Directory.Exists(folder)) await File.WriteAllTextAsync(Path.Combine(folder, "there"), "before");
        string[] options = ["--folder", folder, "--no-start"];
        var plan = await _installation.RunAsync(["restore", "plan", _points[0], .. options]);
        var findings = plan.AnyJson.GetProperty("result").GetProperty("restore_check").GetProperty("findings").EnumerateArray();
        if (plan.ExitCode == 0 || !findings.Any(finding => finding.GetProperty("item").GetString() == item && finding.GetProperty("verdict").GetString() == "blocks"))
        {
            throw new RefutedException($"The plan of a restore to {folder} does not block it: exit code {plan.ExitCode}, {plan.Stdout}");
        }
        var run = await _installation.RunAsync(["restore", "run", _points[0], .. options]);
        if (run.ExitCode == 0 || (Directory.Exists(folder) && Directory.GetFileSystemEntries(folder).Length != 1)) throw new RefutedException($"A restore to {folder} was begun.");
    }

    private async Task RestoreAsync(string point, string folder, string format, LoadKind load, int parallel)
    {
        var clock = Stopwatch.StartNew();
        var result = (await _installation.RunAsync("restore", "run", point, "--folder", _installation.File(folder), "--name", folder, "--no-start", "--format", format)).Json;
        var restore = result.GetProperty("result").GetProperty("restore");
        if (restore.GetProperty("estimate") is not { ValueKind: JsonValueKind.Object } estimate) throw new RefutedException($"The restore {folder} has no estimate.");
        var actual = estimate.GetProperty("actual_seconds").GetDouble();
        if (actual > clock.Elapsed.TotalSeconds) throw new RefutedException($"The restore {folder} is said to have taken {actual} s, and was over after {clock.Elapsed.TotalSeconds} s.");
        if (estimate.GetProperty("data_bytes").GetInt64() != restore.GetProperty("bytes_written").GetInt64())
        {
            throw new RefutedException($"The restore {folder} was to write {estimate.GetProperty("data_bytes")} bytes, and wrote {restore.GetProperty("bytes_written")}.");
        }
        lock (Tally)
        {
            Tally.Add(new ScoredRestore(
                estimate.GetProperty("path").GetString()!, load, parallel, estimate.GetProperty("p50_seconds").GetDouble(), estimate.GetProperty("p90_seconds").GetDouble(), actual));
        }
        Directory.Delete(_installation.File(folder), recursive: true);
    }

    /// <summary>Random data, text that compresses, and a quarter of nothing.</summary>
    private static void WriteImage(string path, int mebibytes, Random random)
    {
        using var file = File.OpenHandle(path, FileMode.Create, FileAccess.Write);
        var block = new byte[MiB];
        for (var i = 0; i < mebibytes; i++)
        {
            if (i % 4 == 3) continue;
            random.NextBytes(block);
            if (i % 4 == 1)
            {
                for (var at = 0; at < block.Length; at++) block[at] &= 7;
            }
            RandomAccess.Write(file, block, (long)i * MiB);
        }
        RandomAccess.SetLength(file, (long)mebibytes * MiB);
    }
}
