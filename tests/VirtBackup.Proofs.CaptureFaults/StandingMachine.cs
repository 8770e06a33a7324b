using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CaptureFaults;

/// <summary>A machine that is off, whose disks are restored in place or replaced while the agent or the controller is killed.</summary>
internal sealed class StandingMachine(Installation installation, InstalledAgent agent, ProofOptions options)
{
    public const string Name = "standing";
    private const int DiskMebibytes = 18;
    private static readonly TimeSpan BeginLimit = TimeSpan.FromSeconds(20);
    private readonly Dictionary<string, string[]> _points = [];
    private readonly string[] _images = [installation.File("standing/a.raw"), installation.File("standing/b.qcow2")];

    private static LabDiskFormat FormatOf(string image) => image.EndsWith(".raw", StringComparison.Ordinal) ? LabDiskFormat.Raw : LabDiskFormat.Qcow2;

    /// <summary>Before the agent is started.</summary>
    public async Task AddAsync()
    {
        Directory.CreateDirectory(installation.File("standing"));
        foreach (var image in _images) await LabDisk.CreateAsync(image, FormatOf(image), DiskMebibytes << 20);
        agent.Add(Name, Guid.NewGuid(), [.. _images.Select(image => new InstalledImage(image, FormatOf(image), Path.GetFileNameWithoutExtension(image)))]);
    }

    // Two recovery points of different content.
    private async Task BeginAsync()
    {
        await installation.WaitForMachineAsync(Name);
        await WriteAsync(1, DiskMebibytes);
        await BackUpAsync();
        await WriteAsync(2, DiskMebibytes / 3);
        await BackUpAsync();
    }

    /// <returns>What became of the restore that was hit.</returns>
    public async Task<string> TryAsync(FaultPlan plan)
    {
        if (_points.Count == 0) await BeginAsync();
        var random = new Random(plan.Seed);
        await WriteAsync(plan.Seed, 2 + random.Next(DiskMebibytes - 2));
        var before = await HashAsync();
        var (point, wanted) = _points.ElementAt(random.Next(_points.Count));
        string[] order = ["restore", "run", point, plan.Onto == Onto.InPlace ? "--in-place" : "--replace", "--no-start"];
        var madeAfter = DateTimeOffset.UtcNow.AddMilliseconds(-1);
        var ordered = installation.RunAsync([.. order, "--detach"]);
        if (random.Next(3) > 0) await WaitForBeginAsync(plan.Onto, ordered);
        await Task.Delay(plan.Delay);
        if (plan.Fault == Fault.ControllerKilled) await installation.Controller.KillAsync();
        else await agent.Service.KillAsync();
        await ordered;
        if (plan.Fault == Fault.ControllerKilled) await installation.Controller.StartAsync();
        else await agent.Service.StartAsync();
        await installation.WaitForMachineAsync(Name);
        var end = await FollowAsync(madeAfter);
        if (options.Sabotage == Sabotages.LoseMark) await LoseMarkAsync();

        // Marks are set one after the other before anything is written: whoever was killed between them has left fewer than there are images.
        var marks = _images.Count(image => File.Exists(image + ".virtbackup-restoring"));
        if (marks > 0)
        {
            var backup = await installation.RunAsync("backup", "run", Name);
            if (backup.ExitCode == 0 || !backup.Stderr.Contains("half restored", StringComparison.Ordinal)) throw new RefutedException($"A half restored machine was backed up: {backup.Stderr}");
            end += ", marked";
        }
        else if (await HashAsync() is var after && !after.SequenceEqual(before) && !after.SequenceEqual(wanted))
        {
            throw new RefutedException($"The machine's disks are neither as they were nor restored, and nothing says so: {string.Join(' ', Names())}");
        }
        // A mark that was not whole yet goes with the next run.
        if (Names().Where(static name => !name.EndsWith(".virtbackup-restoring.partial", StringComparison.Ordinal)).ToList() is { Count: var count } names && count != _images.Length + marks) throw new RefutedException($"Left behind: {string.Join(' ', names)}");

        (await installation.RunAsync(order)).EnsureSuccess();
        if (!(await HashAsync()).SequenceEqual(wanted) || Names().Count != _images.Length) throw new RefutedException($"The machine was restored once more, but is not what point {point} holds: {string.Join(' ', Names())}");
        return $"{plan.Onto} {end}";
    }

    private async Task WaitForBeginAsync(Onto onto, Task ordered)
    {
        using var limit = new CancellationTokenSource(BeginLimit);
        while (!Names().Exists(name => onto == Onto.InPlace ? name.EndsWith("-restoring", StringComparison.Ordinal) : name.Contains(".virtbackup-", StringComparison.Ordinal)))
        {
            // A restore that was over sooner is none that can be hit; it is judged all the same.
            if (limit.IsCancellationRequested && ordered.IsCompleted) return;
            await Task.Delay(5, CancellationToken.None);
        }
    }

    private async Task<string> FollowAsync(DateTimeOffset madeAfter)
    {
        var job = (await installation.RunAsync("job", "list")).Json.GetProperty("jobs").EnumerateArray()
            .Where(job => job.GetProperty("create_time").GetDateTimeOffset() >= madeAfter && job.GetProperty("kind").GetString() == "restore").ToList();
        if (job.Count == 0) return "not ordered";
        var result = await installation.FollowAsync(job[0].GetProperty("job_id").GetString()!);
        var state = result.AnyJson.GetProperty("state").GetString()!;
        if (state is not ("succeeded" or "failed") || (state == "failed" && result.Errors.Count != 1)) throw new RefutedException($"The restore that was hit is '{state}': {result.Stderr}");
        if (state == "failed") Console.WriteLine($"  {result.Errors[0]}");
        return state;
    }

    // As if the product had not noted that it writes.
    private async Task LoseMarkAsync()
    {
        foreach (var image in _images) File.Delete(image + ".virtbackup-restoring");
        await Proc.CheckAsync("qemu-io", ["-f", "raw", "-c", "write -P 0xa7 1M 64k", _images[0]]);
    }

    private async Task BackUpAsync()
    {
        var point = (await installation.BackUpAsync(Name)).GetProperty("point_id").GetString()!;
        _points[point] = await HashAsync();
    }

    private async Task WriteAsync(int seed, int mebibytes)
    {
        var content = new byte[mebibytes << 20];
        var random = new Random(seed);
        random.NextBytes(content);
        var offset = random.Next(DiskMebibytes - mebibytes + 1);
        var source = installation.File("content");
        await File.WriteAllBytesAsync(source, content);
        foreach (var image in _images) await Proc.CheckAsync("qemu-io", ["-f", LabDisk.NameOf(FormatOf(image)), "-c", $"write -s {source} {offset}M {mebibytes}M", image]);
    }

    private async Task<string[]> HashAsync() => await Task.WhenAll(_images.Select(image => DiskContent.HashAsync(image, FormatOf(image))));

    private List<string> Names() => [.. Directory.EnumerateFiles(installation.File("standing")).Select(path => Path.GetFileName(path))];
}
