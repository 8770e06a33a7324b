using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CaptureFaults;

/// <summary>Two guests, one under each driver, an agent, a controller, and a hand that breaks one of them at a time.</summary>
internal sealed class FaultRun(Installation installation, InstalledAgent agent, IReadOnlyList<FaultyMachine> machines, StillMachine still, StandingMachine standing, IReadOnlyList<SmallFolder> fleeces, ProofOptions options)
{
    // A few seconds of reading for what a guest writes in a trial.
    private const string Rate = "6MiB";
    private const int FleeceMebibytes = 320;
    private readonly Dictionary<FaultyMachine, (string Point, IReadOnlyDictionary<string, string> Hashes)> _newest = [];
    private readonly SortedDictionary<string, int> _faults = new(StringComparer.Ordinal);
    private readonly SortedDictionary<string, int> _ends = new(StringComparer.Ordinal);
    private int _folders;

    public string Figures => $"faults: {TextOf(_faults)}; what they hit: {TextOf(_ends)}";

    public static async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Action<FaultRun> begun, CancellationToken cancellationToken)
    {
        await using var vm = await LabVm.BootAsync(new LabVmOptions { Name = "writer" }, cancellationToken);
        await using var libvirt = await LabLibvirt.StartAsync();
        var domain = await libvirt.DefineAsync("web");
        await domain.BootAsync();
        await using var fleeces = new SmallFolders();
        var (installation, agent) = await Installation.StartAsync((installation, agent) =>
        {
            agent.Add(vm);
            agent.Add(libvirt, installation.File("scratch"));
        });
        await using var _ = installation;
        try
        {
            await agent.Service.StopAsync();
            await fleeces.MountAsync(FleeceMebibytes, agent.FleeceFolder, installation.File("scratch"));
            var standing = new StandingMachine(installation, agent, options);
            await standing.AddAsync();
            await agent.Service.StartAsync();
            var run = new FaultRun(installation, agent, [new QmpMachine(vm), new LibvirtMachine(domain)], new StillMachine(installation, agent, libvirt), standing, fleeces.Mounted, options);
            begun(run);
            await run.BeginAsync();
            foreach (var trial in trials)
            {
                cancellationToken.ThrowIfCancellationRequested();
                await run.TryAsync(trial, FaultPlan.Of(options, trial));
            }
        }
        catch
        {
            Console.WriteLine($"--- agent\n{agent.Service.Log}--- controller\n{installation.Controller.Log}---");
            throw;
        }
        finally
        {
            // Before the folders that they cover are deleted.
            await fleeces.DisposeAsync();
        }
    }

    private async Task BeginAsync()
    {
        foreach (var machine in machines)
        {
            await installation.WaitForMachineAsync(machine.Name);
            await machine.BeginAsync();
            await BackUpExactlyAsync(machine);
        }
    }

    private async Task TryAsync(int trial, FaultPlan plan)
    {
        Console.WriteLine($"trial {trial}: {plan}");
        if (plan.IsStanding)
        {
            Count(plan, await standing.TryAsync(plan));
            return;
        }
        var machine = machines[plan.IsLibvirt ? 1 : 0];
        if (plan.Onto != Onto.Folder)
        {
            Count(plan, await still.TryAsync(plan, () => BreakAsync(plan.Fault, machine), () => MendAsync(plan.Fault, machine)));
            await PlantAsync(machine);
            await machine.RequireUnharmedAsync();
            return;
        }
        (await machine.ExecAsync("dd if=/dev/urandom of=/data/x bs=256k count=40 conv=notrunc,fsync 2>/dev/null")).EnsureSuccess();
        var folder = plan.IsRestore ? installation.File($"broken-{trial}") : null;
        var madeAfter = DateTimeOffset.UtcNow.AddMilliseconds(-1);
        string[] order = folder is null
            ? ["backup", "run", machine.Name, "--detach", "--rate-limit", Rate]
            : ["restore", "run", _newest[machine].Point, "--folder", folder, "--name", $"broken-{trial}", "--no-start", "--detach"];
        if (plan.Fault == Fault.GuestAgentKilled) await machine.KillGuestAgentAsync(plan.Delay);
        var ordered = installation.RunAsync(order);
        await Task.Delay(plan.Delay);
        await BreakAsync(plan.Fault, machine);
        await ordered;
        await MendAsync(plan.Fault, machine);
        var end = await SettleAsync(madeAfter, machine, plan, folder);
        if (plan.Fault == Fault.GuestAgentKilled)
        {
            await machine.RequireGuestAgentKilledAsync();
            await (machine is LibvirtMachine libvirt ? libvirt.RestartLostAgentAsync() : Task.CompletedTask);
        }
        Count(plan, end);
        await PlantAsync(machine);
        await machine.RequireUnharmedAsync();
        await BackUpExactlyAsync(machine);
        if (await machine.FindLeftoversAsync() is { Length: > 0 } left) throw new RefutedException($"Left behind in {machine.Name}: {left}");
        foreach (var fleece in fleeces)
        {
            if (Directory.GetFileSystemEntries(fleece.Path) is { Length: > 0 } files) throw new RefutedException($"Left behind: {string.Join(' ', files)}");
        }
    }

    private async Task BreakAsync(Fault fault, FaultyMachine machine)
    {
        switch (fault)
        {
            case Fault.AgentKilled: await agent.Service.KillAsync(); break;
            case Fault.ControllerKilled: await installation.Controller.KillAsync(); break;
            case Fault.HypervisorKilled: await machine.KillAsync(); break;
            case Fault.LibvirtdKilled: await ((LibvirtMachine)machine).KillDaemonAsync(); break;
            case Fault.FleeceFilled:
                // Of the machine whose backup it is: another's is not disturbed. The guest goes on writing meanwhile.
                await fleeces[machine is LibvirtMachine ? 1 : 0].FillGraduallyAsync();
                await Task.Delay(TimeSpan.FromSeconds(1));
                break;
            case Fault.LinkCut: await machine.CutLinksAsync(); break;
            case Fault.GuestAgentKilled: break;
        }
    }

    private async Task MendAsync(Fault fault, FaultyMachine machine)
    {
        switch (fault)
        {
            case Fault.AgentKilled: await agent.Service.StartAsync(); break;
            case Fault.ControllerKilled: await installation.Controller.StartAsync(); break;
            case Fault.HypervisorKilled:
                await StartAgainAsync(machine);
                await machine.BeginAsync();
                break;
            case Fault.LibvirtdKilled: await ((LibvirtMachine)machine).StartDaemonAsync(); break;
            case Fault.FleeceFilled:
                foreach (var fleece in fleeces) fleece.Relieve();
                break;
            case Fault.GuestAgentKilled or Fault.LinkCut: break;
        }
    }

    // A run that found the machine off reads its images under their locks, and nobody can start it meanwhile.
    private static async Task StartAgainAsync(FaultyMachine machine)
    {
        var limit = DateTime.UtcNow + TimeSpan.FromMinutes(2);
        while (true)
        {
            try
            {
                await machine.StartAgainAsync();
                return;
            }
            catch (LabException refused) when (refused.Message.Contains("Failed to get \"write\" lock", StringComparison.Ordinal) && DateTime.UtcNow < limit)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(200));
            }
        }
    }

    /// <summary>Waits for the end of the job that was hit, which must be true.</summary>
    private async Task<string> SettleAsync(DateTimeOffset madeAfter, FaultyMachine machine, FaultPlan plan, string? folder)
    {
        await installation.WaitForMachineAsync(machine.Name);
        var kind = folder is null ? "backup" : "restore";
        var job = (await installation.RunAsync("job", "list")).Json.GetProperty("jobs").EnumerateArray()
            .Where(job => job.GetProperty("create_time").GetDateTimeOffset() >= madeAfter && job.GetProperty("kind").GetString() == kind).ToList();
        if (job.Count == 0) return "not ordered";
        var result = await installation.FollowAsync(job[0].GetProperty("job_id").GetString()!);
        var state = result.AnyJson.GetProperty("state").GetString()!;
        if (state is not ("succeeded" or "failed")) throw new RefutedException($"The {kind} that was hit is '{state}'.");
        if (state == "failed" && result.Errors.Count != 1) throw new RefutedException($"The {kind} that was hit failed with {result.Errors.Count} errors: {result.Stderr}");
        if (state == "failed") Console.WriteLine($"  {result.Errors[0]}");
        if (state == "failed" && plan is { Fault: Fault.LinkCut, IsLibvirt: false } && result.Errors[0].Contains("QEMU went away", StringComparison.Ordinal))
        {
            throw new RefutedException($"Only a link was cut, and it is told otherwise: {result.Errors[0]}");
        }
        if (folder is null) return state;
        if (state == "failed" && Directory.Exists(folder) && Directory.GetFileSystemEntries(folder) is { Length: > 0 } files)
        {
            // Killed between its last deed and its report, a restore has failed as far as the controller knows: then all of it is there.
            if (plan.Fault != Fault.AgentKilled || !await machine.IsRestoredAsync(folder)) throw new RefutedException($"A restore that failed has left {string.Join(' ', files)}");
            foreach (var (disk, hash) in _newest[machine].Hashes)
            {
                if (await DiskContent.HashAsync(Path.Combine(folder, $"{disk}.qcow2"), LabDiskFormat.Qcow2) != hash) throw new RefutedException($"{disk} was left by a restore that was killed, and is not what the machine held.");
            }
            await UndefineAsync(machine, Path.GetFileName(folder));
            Directory.Delete(folder, recursive: true);
            return "complete, but not reported";
        }
        if (state == "succeeded")
        {
            await RequireEqualAsync(result.AnyJson.GetProperty("result").GetProperty("restore"), _newest[machine].Hashes);
            await UndefineAsync(machine, Path.GetFileName(folder));
            Directory.Delete(folder, recursive: true);
        }
        return state;
    }

    /// <summary>The next run, with the guest paused, so that it is known what its point must hold; restored, it must hold that.</summary>
    private async Task BackUpExactlyAsync(FaultyMachine machine)
    {
        await machine.PauseAsync();
        var hashes = await machine.HashDisksAsync();
        var point = (await installation.BackUpAsync(machine.Name)).GetProperty("point_id").GetString()!;
        await machine.ResumeAsync();
        _newest[machine] = (point, hashes);
        var folder = installation.File($"r{_folders++}");
        var restored = (await installation.RunAsync("restore", "run", point, "--folder", folder, "--name", Path.GetFileName(folder), "--no-start")).Json;
        await RequireEqualAsync(restored.GetProperty("result").GetProperty("restore"), hashes);
        await UndefineAsync(machine, Path.GetFileName(folder));
        Directory.Delete(folder, recursive: true);
    }

    private async Task RequireEqualAsync(JsonElement restore, IReadOnlyDictionary<string, string> hashes)
    {
        var paths = restore.GetProperty("details").EnumerateArray().ToDictionary(detail => detail.GetProperty("name").GetString()!, detail => detail.GetProperty("value").GetString()!);
        foreach (var (disk, hash) in hashes)
        {
            var path = paths.GetValueOrDefault($"disk {disk}") ?? throw new RefutedException($"A point was restored without {disk}.");
            if (options.Sabotage == Sabotages.AlterRestored) await Proc.CheckAsync("qemu-io", ["-f", "qcow2", "-c", "write -P 0xa7 1M 64k", path]);
            if (await DiskContent.HashAsync(path, LabDiskFormat.Qcow2) != hash) throw new RefutedException($"{disk} was restored, but is not what the machine held.");
        }
    }

    private static Task UndefineAsync(FaultyMachine machine, string name) => machine is LibvirtMachine libvirt ? libvirt.UndefineAsync(name) : Task.CompletedTask;

    private async Task PlantAsync(FaultyMachine machine)
    {
        if (options.Sabotage == Sabotages.LeaveFrozen) (await machine.ExecAsync("fsfreeze --freeze /data")).EnsureSuccess();
        if (options.Sabotage == Sabotages.FailWrites) (await machine.ExecAsync("echo x >> /run/failed")).EnsureSuccess();
    }

    private void Count(FaultPlan plan, string end)
    {
        var fault = $"{plan.Fault}{(plan.IsStanding ? "/standing" : plan.IsLibvirt ? "/libvirt" : "/qmp")}";
        _faults[fault] = _faults.GetValueOrDefault(fault) + 1;
        var hit = $"{(plan.IsRestore ? "restore" : "backup")} {end}";
        _ends[hit] = _ends.GetValueOrDefault(hit) + 1;
    }

    private static string TextOf(SortedDictionary<string, int> counts) => string.Join(", ", counts.Select(count => $"{count.Key} {count.Value}"));
}

/// <summary>Small file systems that cover folders which are there already.</summary>
internal sealed class SmallFolders : IAsyncDisposable
{
    private readonly List<SmallFolder> _mounted = [];

    public IReadOnlyList<SmallFolder> Mounted => _mounted;

    public async Task MountAsync(int mebibytes, params string[] folders)
    {
        foreach (var folder in folders)
        {
            Directory.CreateDirectory(folder);
            var mode = (await Proc.CheckAsync("stat", ["-c", "%a", folder])).Trim();
            _mounted.Add(await SmallFolder.MountAsync(mebibytes, folder));
            await Proc.CheckAsync("chmod", [mode, folder]);
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var folder in _mounted) await folder.DisposeAsync();
        _mounted.Clear();
    }
}
