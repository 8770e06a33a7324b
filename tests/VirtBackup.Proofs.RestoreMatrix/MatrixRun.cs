using System.Diagnostics;
using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.RestoreMatrix;

/// <summary>One scenario: a machine, its points, and every disk of the last one compared with what qemu-img read at its cut.</summary>
internal sealed class MatrixRun(Installation installation, InstalledAgent agent, ProofOptions options, string template, IReadOnlyList<string> images, Tally tally)
{
    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(2);
    private readonly Stopwatch step = Stopwatch.StartNew();
    private readonly List<string> steps = [];

    public async Task RunAsync(int trial, Scenario scenario, CancellationToken cancellationToken)
    {
        var random = options.RandomOf(trial, 1);
        var name = $"m{trial}";
        await using var machine = await MatrixMachine.BootAsync(name, template, images, cancellationToken);
        Note("boot");
        await ServeAsync(() => agent.Add(machine.Vm), name);
        await machine.WriteAsync(random);
        Note("write");

        var full = await BackUpAsync(machine, name, installation.File($"{name}-0"), random);
        if (scenario == Scenario.Full)
        {
            await RequireAsync(scenario, machine, full, null, trial);
            return;
        }
        await machine.ChangeAsync(scenario, template, random);
        await machine.WriteAsync(random);
        Note("change");
        if (scenario == Scenario.Off)
        {
            await machine.Vm.QuitAsync(cancellationToken);
            name += "-off";
            await ServeAsync(() => agent.Add(name, Guid.NewGuid(), [.. machine.Disks.Select(disk => new InstalledImage(disk.Path, disk.Format == "raw" ? LabDiskFormat.Raw : LabDiskFormat.Qcow2, disk.Name))]), name);
        }
        var next = scenario == Scenario.Off ? await BackUpOffAsync(machine, name, installation.File($"{name}-1")) : await BackUpAsync(machine, name, installation.File($"{name}-1"), random);
        await RequireAsync(scenario, machine, next, full.Copies, trial);
        foreach (var copies in new[] { full, next }) Directory.Delete(Path.GetDirectoryName(copies.Copies.First().Value)!, recursive: true);
    }

    // An agent reads its machines when it starts.
    private async Task ServeAsync(Action configure, string name)
    {
        configure();
        if (agent.Service.IsRunning) await agent.Service.RestartAsync();
        else await agent.Service.StartAsync();
        await installation.WaitForMachineAsync(name);
        Note("serve");
    }

    /// <summary>Copies the disks of the paused guest, has them backed up, and lets the guest write on as soon as they are cut.</summary>
    private async Task<(JsonElement Point, IReadOnlyDictionary<string, string> Copies)> BackUpAsync(MatrixMachine machine, string name, string folder, Random random)
    {
        await machine.Vm.QmpAsync("stop");
        var copies = await machine.CopyAsync(folder);
        Note("copy");
        var job = (await installation.RunAsync("backup", "run", name, "--detach")).Json.GetProperty("job_id").GetString()!;
        var following = installation.FollowAsync(job);
        while (!following.IsCompleted && (await machine.Vm.QmpAsync("query-block-exports")).GetArrayLength() < machine.Disks.Count) await Task.Delay(Poll);
        if (!following.IsCompleted) tally.WrittenDuring++;
        await machine.Vm.QmpAsync("cont");
        await machine.WriteAsync(random);
        var point = (await following).Json.GetProperty("result").GetProperty("backup");
        Note("back up");
        return (point, copies);
    }

    private async Task<(JsonElement Point, IReadOnlyDictionary<string, string> Copies)> BackUpOffAsync(MatrixMachine machine, string name, string folder)
    {
        var copies = await machine.CopyAsync(folder);
        var point = await installation.BackUpAsync(name);
        Note("back up");
        return (point, copies);
    }

    private async Task RequireAsync(
        Scenario scenario, MatrixMachine machine, (JsonElement Point, IReadOnlyDictionary<string, string> Copies) made, IReadOnlyDictionary<string, string>? before, int trial)
    {
        var read = made.Point.GetProperty("streams").EnumerateArray().ToDictionary(disk => disk.GetProperty("name").GetString()!, disk => disk.GetProperty("read_reason").GetString()!);
        foreach (var disk in machine.Disks)
        {
            var expected = Mode.Of(scenario, disk);
            if (options.Sabotage == Sabotages.ExpectChanged) expected = expected.FullReason is null ? new Mode("it was resized from") : Mode.Changed;
            var reason = read.GetValueOrDefault(disk.Name) ?? throw new RefutedException($"{scenario}: disk {disk.Name} is not in the recovery point");
            if (!expected.Allows(reason)) throw new RefutedException($"{scenario}: disk {disk.Name} was read '{reason}'; the matrix says '{expected}'");
        }
        var restored = await installation.RestoreDisksAsync(made.Point.GetProperty("point_id").GetString()!, $"r{trial}");
        Note("restore");
        var spoiled = machine.Disks.Where(disk => !disk.IsRoot).ElementAt(options.RandomOf(trial, 2).Next(Enum.GetValues<DiskKind>().Length));
        foreach (var disk in machine.Disks)
        {
            var image = restored.GetValueOrDefault(disk.Name) ?? throw new RefutedException($"{scenario}: disk {disk.Name} was not restored");
            var format = image.EndsWith(".raw", StringComparison.Ordinal) ? "raw" : "qcow2";
            if (options.Sabotage is Sabotages.DropExtent or Sabotages.SwapBlocks && disk == spoiled)
            {
                await Sabotages.SpoilAsync(options.Sabotage, image, format, made.Copies[disk.Name], before?.GetValueOrDefault(disk.Name));
            }
            var compared = await Proc.RunAsync("qemu-img", ["compare", "-q", "-f", "raw", "-F", format, made.Copies[disk.Name], image], TimeSpan.FromMinutes(10));
            var length = JsonDocument.Parse(await Proc.CheckAsync("qemu-img", ["info", "--output=json", "-f", format, image])).RootElement.GetProperty("virtual-size").GetInt64();
            // Without its option -s, which also compares what is allocated, the comparison lets lengths differ by zeros.
            if (compared.ExitCode != 0 || length != new FileInfo(made.Copies[disk.Name]).Length) throw new RefutedException($"{scenario}: the restored disk {disk.Name} is not what it was at the cut (qemu-img compare: {compared.ExitCode} {compared.Stdout}{compared.Stderr})");
            tally.Compared++;
        }
        Directory.Delete(installation.File($"r{trial}"), recursive: true);
        Note("compare");
        tally.Cells.Add($"{scenario.ToString().ToLowerInvariant()}");
        Console.WriteLine($"  {scenario}: {string.Join("; ", machine.Disks.Select(disk => $"{disk.Name} {Mode.Of(scenario, disk)}"))}");
        Console.WriteLine($"  seconds: {string.Join(", ", steps)}");
    }

    private void Note(string what)
    {
        steps.Add($"{what} {step.Elapsed.TotalSeconds:0.0}");
        step.Restart();
    }
}

/// <summary>Counts, for the verdict.</summary>
internal sealed class Tally
{
    /// <summary>Scenarios that were shown, each for all kinds of disks.</summary>
    public List<string> Cells { get; } = [];

    /// <summary>Disks compared with their reference.</summary>
    public int Compared { get; set; }

    /// <summary>Backups during which the guest wrote.</summary>
    public int WrittenDuring { get; set; }

    public override string ToString() => $"cells={Cells.Count * Enum.GetValues<DiskKind>().Length} disks-compared={Compared} written-during={WrittenDuring} scenarios({string.Join(' ', Cells)})";
}
