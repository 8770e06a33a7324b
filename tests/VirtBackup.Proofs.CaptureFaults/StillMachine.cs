using System.Text.RegularExpressions;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CaptureFaults;

/// <summary>
/// A machine of libvirt that is off, and is restored onto its disks, or with new ones instead of them, while something dies.
/// It never is a mixture: its disks and its definition are what they were, or what the recovery point holds; or it is known to be half restored.
/// </summary>
internal sealed partial class StillMachine(Installation installation, InstalledAgent agent, LabLibvirt libvirt)
{
    private const string Name = "still";
    private const int MemoryOfPoint = 262144;
    private static readonly (string Target, string File, LabDiskFormat Format, long Bytes)[] Layout =
        [("vda", "root.qcow2", LabDiskFormat.Qcow2, 24 << 20), ("vdb", "data.raw", LabDiskFormat.Raw, 12 << 20)];

    private readonly LabDomain _domain = new(libvirt, Name, Guid.NewGuid());
    private string? _point;
    private State? _pointState;

    /// <param name="Hashes">Of its disks.</param>
    /// <param name="Memory">KiB, as the definition says.</param>
    private sealed record State(string Hashes, int Memory);

    private string Folder => libvirt.File(Name);

    /// <returns>How the restore ended.</returns>
    public async Task<string> TryAsync(FaultPlan plan, Func<Task> breaking, Func<Task> mending)
    {
        _point ??= await BeginAsync();
        var random = new Random(plan.Seed);
        await ChangeAsync(random);
        var before = await ReadAsync();
        var isReplacing = plan.Onto == Onto.Replace;
        var isStarting = random.Next(2) == 0;
        var madeAfter = DateTimeOffset.UtcNow.AddMilliseconds(-1);
        var ordered = installation.RunAsync(["restore", "run", _point, isReplacing ? "--replace" : "--in-place", .. isStarting ? [] : (string[])["--no-start"], "--detach"]);
        await Task.Delay(plan.Delay);
        await breaking();
        await ordered;
        await mending();
        var end = await SettleAsync(madeAfter, plan);
        if ((await libvirt.VirshAsync("domstate", Name)).Trim() != "shut off")
        {
            if (!isStarting) throw new RefutedException($"{Name} runs, and was not to be started.");
            await libvirt.VirshAsync("destroy", Name);
        }
        if (isReplacing) await RequireReplacedOrNotAsync(before, end);
        else await RequireRestoredOrMarkedAsync(before, end);
        return $"{plan.Onto} {end}";
    }

    private async Task<string> BeginAsync()
    {
        Directory.CreateDirectory(Folder);
        foreach (var (disk, number) in Layout.Select((disk, number) => (disk, number))) await LabDisk.CreateRandomAsync(PathOf(disk.File), disk.Format, disk.Bytes, seed: number + 1);
        await libvirt.GiveAsync(Folder);
        await DefineAsync(MemoryOfPoint);
        await installation.WaitForMachineAsync(Name);
        var point = (await installation.BackUpAsync(Name)).GetProperty("point_id").GetString()!;
        _pointState = await ReadAsync();
        return point;
    }

    // It starts, finds nothing to boot from, and writes nothing: what its disks hold is known.
    private Task DefineAsync(int memory)
    {
        var disks = string.Concat(Layout.Select(disk => LabLibvirt.DiskXml(disk.Target, PathOf(disk.File), disk.Format)));
        var xml = BootLine().Replace(_domain.Xml(disks), "").Replace("<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>", "", StringComparison.Ordinal);
        return _domain.DefineAsync(xml.Replace("<memory unit='MiB'>256</memory>", $"<memory unit='KiB'>{memory}</memory>", StringComparison.Ordinal));
    }

    private async Task ChangeAsync(Random random)
    {
        foreach (var disk in Layout)
        {
            for (var i = 0; i < 8; i++)
            {
                var write = $"write -P {random.Next(1, 256)} {random.Next((int)(disk.Bytes >> 16) - 4) << 16} 256k";
                await Proc.CheckAsync("qemu-io", ["-f", LabDisk.NameOf(disk.Format), "-c", write, PathOf(disk.File)]);
            }
        }
        await DefineAsync(MemoryOfPoint - ((1 + random.Next(32)) * 1024));
    }

    private async Task<State> ReadAsync()
    {
        var hashes = new List<string>();
        foreach (var disk in Layout) hashes.Add(await DiskContent.HashAsync(PathOf(disk.File), disk.Format));
        var memory = Memory().Match(await libvirt.VirshAsync("dumpxml", Name, "--inactive")).Groups[1].Value;
        return new State(string.Join(' ', hashes), int.Parse(memory, System.Globalization.CultureInfo.InvariantCulture));
    }

    private async Task<string> SettleAsync(DateTimeOffset madeAfter, FaultPlan plan)
    {
        await installation.WaitForMachineAsync(Name);
        var job = (await installation.RunAsync("job", "list")).Json.GetProperty("jobs").EnumerateArray()
            .Where(job => job.GetProperty("create_time").GetDateTimeOffset() >= madeAfter && job.GetProperty("kind").GetString() == "restore").ToList();
        if (job.Count == 0) return "not ordered";
        var result = await installation.FollowAsync(job[0].GetProperty("job_id").GetString()!);
        var state = result.AnyJson.GetProperty("state").GetString()!;
        if (state == "failed") Console.WriteLine($"  {(result.Errors.Count > 0 ? result.Errors[0] : "without a reason")}");
        if (plan.Fault == Fault.LibvirtdKilled && Find("*.virtbackup-replacing").Length > 0)
        {
            // libvirt could not be told; the agent's next start does it.
            await agent.Service.KillAsync();
            await agent.Service.StartAsync();
            await installation.WaitForMachineAsync(Name);
        }
        return state;
    }

    private async Task RequireReplacedOrNotAsync(State before, string end)
    {
        var now = await ReadAsync();
        if (now != before && now != _pointState) throw new RefutedException($"{Name} is neither what it was nor what the point holds: {before}; {_pointState}; {now}");
        if (end == "succeeded" && now != _pointState) throw new RefutedException($"{Name} was not replaced.");
        if (Find("*.virtbackup-*") is { Length: > 0 } left) throw new RefutedException($"Left beside the disks of {Name}: {string.Join(' ', left)}");
        if (Find("*.replaced-*") is { Length: > 0 } kept)
        {
            if (end == "succeeded" || now != _pointState || kept.Length != Layout.Length) throw new RefutedException($"{Name} keeps {string.Join(' ', kept)} after a restore that {end}.");
            var old = new List<string>();
            foreach (var disk in Layout) old.Add(await DiskContent.HashAsync(kept.Single(path => path.StartsWith(PathOf(disk.File), StringComparison.Ordinal)), disk.Format));
            if (string.Join(' ', old) != before.Hashes) throw new RefutedException($"What {Name} was is lost.");
            foreach (var path in kept) File.Delete(path);
        }
    }

    private async Task RequireRestoredOrMarkedAsync(State before, string end)
    {
        var marks = Find("*.virtbackup-restoring");
        var now = await ReadAsync();
        if (marks.Length == 0 && now.Hashes != before.Hashes && now.Hashes != _pointState!.Hashes) throw new RefutedException($"{Name} is half restored, and nothing tells.");
        if (end == "succeeded" && (marks.Length > 0 || now.Hashes != _pointState!.Hashes)) throw new RefutedException($"{Name} was not restored.");
        if (marks.Length > 0)
        {
            var backup = await installation.RunAsync("backup", "run", Name);
            if (!backup.Stderr.Contains("half restored", StringComparison.Ordinal)) throw new RefutedException($"A half restored machine was backed up: {backup.Stderr}");
        }
        _ = (await installation.RunAsync("restore", "run", _point!, "--in-place", "--no-start")).Json;
        if ((await ReadAsync()).Hashes != _pointState!.Hashes || Find("*.virtbackup-*").Length > 0) throw new RefutedException($"A restore that was repeated is not complete.");
    }

    private string PathOf(string file) => Path.Combine(Folder, file);

    private string[] Find(string pattern) => Directory.GetFiles(Folder, pattern);

    [GeneratedRegex("<kernel>.*</cmdline>")]
    private static partial Regex BootLine();

    [GeneratedRegex("<memory unit='KiB'>([0-9]+)</memory>")]
    private static partial Regex Memory();
}
