using System.Diagnostics;
using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.RestoreMatrix;

/// <summary>One scenario on one platform: a machine, its points, and every disk of the last one compared with what qemu-img read at its cut.</summary>
internal sealed class MatrixRun(Installation installation, InstalledAgent agent, ProofOptions options, string template, Tally tally)
{
    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(2);
    private readonly Stopwatch step = Stopwatch.StartNew();
    private readonly List<string> steps = [];

    public async Task RunAsync(int trial, Cell cell, Func<string, Task<IMatrixMachine>> boot, CancellationToken cancellationToken)
    {
        var random = options.RandomOf(trial, 1);
        await using var machine = await boot($"m{trial}");
        Note("boot");
        var name = await ServeAsync(machine);
        await machine.WriteAsync(random);
        Note("write");

        var made = await BackUpAsync(machine, name, installation.File("copies-0"), random);
        IReadOnlyDictionary<string, string>? before = null;
        if (cell.Scenario != Scenario.Full)
        {
            cancellationToken.ThrowIfCancellationRequested();
            // What a machine that ends has not written yet is lost with it.
            if (cell.Scenario == Scenario.Off) await machine.WriteAsync(random);
            await machine.ChangeAsync(cell.Scenario, template, random);
            if (cell.Scenario != Scenario.Off) await machine.WriteAsync(random);
            Note("change");
            before = made.Copies;
            made = cell.Scenario == Scenario.Off
                ? await BackUpOffAsync(machine, await ServeAsync(machine), installation.File("copies-1")) : await BackUpAsync(machine, name, installation.File("copies-1"), random);
        }
        await RequireAsync(cell, machine, made, before, trial);
        foreach (var copies in new[] { before, made.Copies }.OfType<IReadOnlyDictionary<string, string>>()) Directory.Delete(Path.GetDirectoryName(copies.First().Value)!, recursive: true);
    }

    // An agent reads its machines when it starts.
    private async Task<string> ServeAsync(IMatrixMachine machine)
    {
        var name = machine.Configure(agent);
        if (agent.Service.IsRunning) await agent.Service.RestartAsync();
        else await agent.Service.StartAsync();
        await installation.WaitForMachineAsync(name);
        Note("serve");
        return name;
    }

    /// <summary>Copies the disks of the paused guest, has them backed up, and lets the guest write on as soon as they are cut.</summary>
    private async Task<(JsonElement Point, IReadOnlyDictionary<string, string> Copies)> BackUpAsync(IMatrixMachine machine, string name, string folder, Random random)
    {
        await machine.PauseAsync();
        var copies = await GuestWork.CopyAsync(machine, folder);
        Note("copy");
        var job = (await installation.RunAsync("backup", "run", name, "--detach")).Json.GetProperty("job_id").GetString()!;
        var following = installation.FollowAsync(job);
        while (!following.IsCompleted && !await machine.IsCutAsync()) await Task.Delay(Poll);
        if (!following.IsCompleted) tally.WrittenDuring++;
        await machine.ResumeAsync();
        await machine.WriteAsync(random);
        var point = (await following).Json.GetProperty("result").GetProperty("backup");
        Note("back up");
        return (point, copies);
    }

    private async Task<(JsonElement Point, IReadOnlyDictionary<string, string> Copies)> BackUpOffAsync(IMatrixMachine machine, string name, string folder)
    {
        var copies = await GuestWork.CopyAsync(machine, folder);
        var point = await installation.BackUpAsync(name);
        Note("back up");
        return (point, copies);
    }

    private async Task RequireAsync(
        Cell cell, IMatrixMachine machine, (JsonElement Point, IReadOnlyDictionary<string, string> Copies) made, IReadOnlyDictionary<string, string>? before, int trial)
    {
        var read = made.Point.GetProperty("streams").EnumerateArray().ToDictionary(disk => disk.GetProperty("name").GetString()!, disk => disk.GetProperty("read_reason").GetString()!);
        foreach (var disk in machine.Disks)
        {
            var expected = machine.ModeOf(cell.Scenario, disk);
            if (options.Sabotage == Sabotages.ExpectChanged) expected = expected.FullReason is null ? new Mode("it was resized from") : Mode.Changed;
            var reason = read.GetValueOrDefault(disk.Name) ?? throw new RefutedException($"{cell}: disk {disk.Name} is not in the recovery point");
            if (!expected.Allows(reason)) throw new RefutedException($"{cell}: disk {disk.Name} was read '{reason}'; the matrix says '{expected}'");
        }
        var restored = await installation.RestoreDisksAsync(made.Point.GetProperty("point_id").GetString()!, $"r{trial}");
        Note("restore");
        var spoiled = machine.Disks.Where(disk => !disk.IsRoot).ElementAt(options.RandomOf(trial, 2).Next(Enum.GetValues<DiskKind>().Length));
        foreach (var disk in machine.Disks)
        {
            var image = restored.GetValueOrDefault(disk.Name) ?? throw new RefutedException($"{cell}: disk {disk.Name} was not restored");
            var format = image.EndsWith(".raw", StringComparison.Ordinal) ? "raw" : "qcow2";
            if (options.Sabotage is Sabotages.DropExtent or Sabotages.SwapBlocks && disk == spoiled)
            {
                await Sabotages.SpoilAsync(options.Sabotage, image, format, made.Copies[disk.Name], before?.GetValueOrDefault(disk.Name));
            }
            var compared = await Proc.RunAsync("qemu-img", ["compare", "-q", "-f", "raw", "-F", format, made.Copies[disk.Name], image], TimeSpan.FromMinutes(10));
            var length = JsonDocument.Parse(await Proc.CheckAsync("qemu-img", ["info", "--output=json", "-f", format, image])).RootElement.GetProperty("virtual-size").GetInt64();
            // Without its option -s, which also compares what is allocated, the comparison lets lengths differ by zeros.
            if (compared.ExitCode != 0 || length != new FileInfo(made.Copies[disk.Name]).Length) throw new RefutedException($"{cell}: the restored disk {disk.Name} is not what it was at the cut (qemu-img compare: {compared.ExitCode} {compared.Stdout}{compared.Stderr})");
            tally.Compared++;
        }
        await machine.ForgetRestoredAsync($"r{trial}");
        Directory.Delete(installation.File($"r{trial}"), recursive: true);
        Note("compare");
        tally.Cells.Add($"{cell}");
        Console.WriteLine($"  {cell}: {string.Join("; ", machine.Disks.Select(disk => $"{disk.Name} {machine.ModeOf(cell.Scenario, disk)}"))}");
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
