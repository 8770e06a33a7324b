using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CaptureFaults;

/// <summary>A real guest that writes all the time, and what can befall it. Tests speak to it past the program under test.</summary>
internal abstract class FaultyMachine
{
    /// <summary>Writes and syncs without end, and counts what failed.</summary>
    private const string Load =
        "dd if=/dev/zero of=/data/w bs=1M count=24 2>/dev/null; sync; : > /run/failed; " +
        "(n=0; while :; do dd if=/dev/urandom of=/data/w bs=64k count=4 seek=$((n * 4)) conv=notrunc,fsync 2>/dev/null || echo x >> /run/failed; " +
        "n=$(((n + 7) % 90)); echo $n > /run/turn; sleep 0.2; done) </dev/null >/dev/null 2>&1 &";

    /// <summary>Writes within 15 s, or ends with exit code 9; its load then has as long to go on.</summary>
    private static readonly string Probe = LabGuest.WriteWithin(tenths: 150) +
        "; n=0; t=$(cat /run/turn); echo $t; while [ $(cat /run/turn) = $t ] && [ $n -lt 150 ]; do n=$((n + 1)); sleep 0.1; done; " +
        "cat /run/turn && wc -c < /run/failed && (dmesg | grep -c -i -E 'I/O error|remount' || true)";

    public abstract string Name { get; }

    /// <summary>Disks by the names that recovery points give them.</summary>
    public abstract IReadOnlyDictionary<string, (string Path, LabDiskFormat Format)> Disks { get; }

    public abstract Task<GuestResult> ExecAsync(string line);

    public abstract Task PauseAsync();

    public abstract Task ResumeAsync();

    /// <summary>The hypervisor's word for the machine's state: <c>running</c>.</summary>
    public abstract Task<string> ReadStateAsync();

    /// <summary>SIGKILL to the machine's process.</summary>
    public abstract Task KillAsync();

    /// <summary>Whether a machine restored into this folder is there, and not only its disks.</summary>
    public abstract Task<bool> IsRestoredAsync(string folder);

    /// <summary>Starts the machine again after it was killed.</summary>
    public abstract Task StartAgainAsync();

    /// <summary>Cuts the connections over which its frozen disks are read, if there are any.</summary>
    public abstract Task CutLinksAsync();

    /// <summary>What a capture that is over has left in the hypervisor; empty: nothing.</summary>
    public abstract Task<string> FindLeftoversAsync();

    private int _agentKills;

    public async Task BeginAsync() => (await ExecAsync(Load)).EnsureSuccess();

    /// <summary>Kills the guest agent that the program under test speaks to, so much later. It is started again at once.</summary>
    public async Task KillGuestAgentAsync(TimeSpan after) => (await ExecAsync(
        $"(sleep {after.TotalSeconds.ToString("0.00", System.Globalization.CultureInfo.InvariantCulture)}; kill -9 $(ps | grep '[o]rg.qemu.guest_agent.0' | awk '{{ print $1 }}') && echo {++_agentKills} > /run/agent-kills) </dev/null >/dev/null 2>&1 &")).EnsureSuccess();

    /// <summary>A guest whose agent lives would prove nothing.</summary>
    public Task RequireGuestAgentKilledAsync() =>
        Installation.PollAsync($"the guest agent of {Name} is killed", async () => (await ExecAsync("cat /run/agent-kills 2>/dev/null")).Stdout.Trim() == $"{_agentKills}");

    public async Task<IReadOnlyDictionary<string, string>> HashDisksAsync()
    {
        var hashes = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var (name, disk) in Disks) hashes[name] = await DiskContent.HashAsync(disk.Path, disk.Format, inUse: true);
        return hashes;
    }

    /// <summary>The guest runs, its file systems let writes through, none of its writes failed, and its load goes on.</summary>
    /// <exception cref="RefutedException">It is not so.</exception>
    public async Task RequireUnharmedAsync()
    {
        if (await ReadStateAsync() is not "running" and var state) throw new RefutedException($"The machine {Name} is '{state}', not running.");
        var probe = await ExecAsync(Probe);
        if (probe.ExitCode != 0) throw new RefutedException($"The guest {Name} cannot write: exit code {probe.ExitCode}, {probe.Stdout}{probe.Stderr}");
        if (probe.Stdout.Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries) is not [var before, var after, "0", "0"] || before == after)
        {
            throw new RefutedException($"The guest {Name} was harmed: its load was at turn, then at turn, failed writes, errors of its kernel: {probe.Stdout.ReplaceLineEndings(" ")}");
        }
    }
}

/// <summary>A machine reached over QMP.</summary>
internal sealed class QmpMachine(LabVm vm) : FaultyMachine
{
    public override string Name => vm.Name;

    public override IReadOnlyDictionary<string, (string Path, LabDiskFormat Format)> Disks { get; } =
        vm.Disks.ToDictionary(disk => disk.DeviceId, disk => (disk.Path, disk.Format), StringComparer.Ordinal);

    public override Task<GuestResult> ExecAsync(string line) => vm.ExecAsync(line);

    public override Task PauseAsync() => vm.QmpAsync("stop");

    public override Task ResumeAsync() => vm.QmpAsync("cont");

    public override async Task<string> ReadStateAsync() => (await vm.QmpAsync("query-status")).GetProperty("status").GetString()!;

    public override Task KillAsync() => vm.KillAsync();

    public override Task<bool> IsRestoredAsync(string folder) => Task.FromResult(File.Exists(Path.Combine(folder, "launch.json")) && File.Exists(Path.Combine(folder, "launch.sh")));

    public override async Task StartAgainAsync()
    {
        await vm.StartAgainAsync();
        await vm.WaitForAgentAsync();
    }

    public override async Task CutLinksAsync()
    {
        foreach (var export in (await vm.QmpAsync("query-block-exports")).EnumerateArray().Select(export => export.GetProperty("id").GetString()!).ToList())
        {
            try
            {
                await vm.QmpAsync("block-export-del", $$"""{"id":"{{export}}","mode":"hard"}""");
            }
            catch (LabException)
            {
                // The capture has just removed it itself.
            }
        }
    }

    public override async Task<string> FindLeftoversAsync() => string.Join(' ', (await vm.QmpAsync("query-named-block-nodes", """{"flat":true}""")).EnumerateArray()
        .Select(node => node.GetProperty("node-name").GetString()!).Where(name => name.StartsWith("vb-", StringComparison.Ordinal)));
}

/// <summary>A machine that libvirt manages.</summary>
internal sealed class LibvirtMachine(LabDomain domain) : FaultyMachine
{
    public override string Name => domain.Name;

    public override IReadOnlyDictionary<string, (string Path, LabDiskFormat Format)> Disks { get; } = new Dictionary<string, (string, LabDiskFormat)>(StringComparer.Ordinal)
    {
        ["vda"] = (domain.Libvirt.File($"{domain.Name}/root.qcow2"), LabDiskFormat.Qcow2),
        ["vdb"] = (domain.Libvirt.File($"{domain.Name}/data.qcow2"), LabDiskFormat.Qcow2),
    };

    public override Task<GuestResult> ExecAsync(string line) => domain.ExecAsync(line);

    public override Task PauseAsync() => domain.Libvirt.VirshAsync("suspend", Name);

    public override Task ResumeAsync() => domain.Libvirt.VirshAsync("resume", Name);

    public override async Task<string> ReadStateAsync() => (await domain.Libvirt.VirshAsync("domstate", Name)).Trim();

    public override Task KillAsync() => domain.KillAsync();

    public override Task StartAgainAsync() => domain.BootAsync();

    public override Task CutLinksAsync() => domain.Libvirt.TryVirshAsync("domjobabort", Name);

    /// <summary>
    /// libvirt 9.0 misses an agent that ends while it begins a backup job, and takes it for the guest's until another one begins: what the
    /// program under test says then is done.
    /// </summary>
    public async Task RestartLostAgentAsync()
    {
        if ((await domain.Libvirt.TryVirshAsync("qemu-agent-command", Name, "{\"execute\":\"guest-ping\"}")) is { ExitCode: not 0 } lost && lost.Stderr.Contains("disappeared", StringComparison.Ordinal))
        {
            await KillGuestAgentAsync(TimeSpan.Zero);
            await RequireGuestAgentKilledAsync();
            await Installation.PollAsync($"the guest of {Name} lets writes through", async () => (await ExecAsync(LabGuest.WriteWithin(tenths: 20))).ExitCode == 0);
        }
    }

    public override async Task<string> FindLeftoversAsync()
    {
        var job = (await domain.Libvirt.VirshAsync("domjobinfo", Name)).Trim();
        return job.Contains("None", StringComparison.Ordinal) ? "" : job;
    }

    public override async Task<bool> IsRestoredAsync(string folder) => (await domain.Libvirt.TryVirshAsync("dominfo", Path.GetFileName(folder))).ExitCode == 0;

    /// <summary>Takes out a machine that was restored beside it, and is not needed any more.</summary>
    public Task UndefineAsync(string name) => domain.Libvirt.TryVirshAsync("undefine", name);

    public Task KillDaemonAsync() => domain.Libvirt.KillDaemonAsync();

    public Task StartDaemonAsync() => domain.Libvirt.StartDaemonAsync();
}
