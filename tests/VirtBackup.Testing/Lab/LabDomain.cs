using System.Net.Sockets;

namespace VirtBackup.Testing.Lab;

/// <summary>A machine of a <see cref="LabLibvirt"/>. Tests speak to its guest through a channel of their own. One caller at a time.</summary>
public sealed class LabDomain(LabLibvirt libvirt, string name, Guid uuid)
{
    private static readonly TimeSpan BootLimit = TimeSpan.FromMinutes(4);
    private const int TriesPerAgent = 40;
    private const string RestartAgent =
        "for p in /proc/[0-9]*; do if [ \"$(readlink $p/exe)\" = /usr/sbin/qemu-ga ] && grep -q org.qemu.guest_agent.0 $p/cmdline; then kill ${p#/proc/}; fi; done";

    public string Name => name;

    public Guid Uuid => uuid;

    public LabLibvirt Libvirt => libvirt;

    /// <summary>The socket of the guest agent that tests speak to.</summary>
    public string AgentPath { get; init; } = libvirt.File($"{name}.qga");

    /// <summary>A file or pipe for all that the guest agent says to libvirt; null: it is written nowhere.</summary>
    public string? AgentLog { get; init; }

    /// <summary>The machine's process.</summary>
    public int Pid => int.Parse(File.ReadAllText(Path.Combine(libvirt.RunFolder, $"{name}.pid")), System.Globalization.CultureInfo.InvariantCulture);

    /// <summary>The document of a machine with these disks.</summary>
    public string Xml(string disks, string extraDevices = "") => $"""
        <domain type='qemu'>
          <name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>256</memory><vcpu>1</vcpu>
          <os><type arch='x86_64' machine='q35'>hvm</type><kernel>{(extraDevices.Contains("<tpm", StringComparison.Ordinal) ? libvirt.PackedKernel : libvirt.Kernel)}</kernel><initrd>{libvirt.Initrd}</initrd><cmdline>console=ttyS0 quiet panic=-1 mitigations=off cryptomgr.notests</cmdline></os>
          <features><acpi/></features><cpu mode='maximum'/><on_poweroff>destroy</on_poweroff>
          <devices><emulator>/usr/bin/{LabVm.Program}</emulator>
            {disks}
            <interface type='user'><mac address='52:54:00:{uuid.ToByteArray()[0]:x2}:{uuid.ToByteArray()[1]:x2}:{uuid.ToByteArray()[2]:x2}'/><model type='virtio'/></interface>
            <channel type='unix'>{(AgentLog is null ? "" : $"<log file='{AgentLog}' append='on'/>")}<target type='virtio' name='org.qemu.guest_agent.0'/></channel>
            <channel type='unix'><source mode='bind' path='{AgentPath}'/><target type='virtio' name='lab.guest_agent.0'/></channel>
            <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
            <serial type='file'><source path='{libvirt.File($"{name}.log")}'/></serial>
            {extraDevices}
          </devices>
        </domain>
        """;

    public async Task DefineAsync(string xml)
    {
        var path = libvirt.File($"{name}.xml");
        await File.WriteAllTextAsync(path, xml);
        await libvirt.VirshAsync("define", path);
    }

    /// <summary>Starts it and waits until its guest is up.</summary>
    public async Task BootAsync()
    {
        await libvirt.VirshAsync("start", name);
        await WithAgentAsync((agent, token) => agent.ExecuteAsync("guest-ping", null, token));
        // libvirt learns that the agent is there a moment later. Told so during a backup, it does not (9.0): its one worker for
        // events waits 30 s for that job, which cannot end meanwhile, and drops the news. Then the agent has to come once more.
        using var limit = new CancellationTokenSource(BootLimit);
        for (var tries = 1; await libvirt.TryVirshAsync("qemu-agent-command", name, """{"execute":"guest-ping"}""") is { ExitCode: not 0 } refused; tries++)
        {
            if (limit.IsCancellationRequested) throw new TimeoutException($"libvirt does not reach the guest agent of {name} within {BootLimit.TotalSeconds:0} s: {refused.Stderr}\n{await File.ReadAllTextAsync(libvirt.File("libvirtd.log"))}");
            if (tries % TriesPerAgent == 0 && (await libvirt.VirshAsync("domjobinfo", name)).Contains("None", StringComparison.Ordinal)) (await ExecAsync(RestartAgent)).EnsureSuccess();
            // Each try is a process.
            await Task.Delay(200);
        }
    }

    /// <summary>Runs a line of shell in the guest to its end.</summary>
    public Task<GuestResult> ExecAsync(string line) => WithAgentAsync((agent, token) => agent.ShellAsync(line, token));

    public Task<byte[]> ReadFileAsync(string path) => WithAgentAsync((agent, token) => agent.ReadFileAsync(path, token));

    /// <summary>SIGKILL, as when the host loses power. Returns when libvirt has noticed.</summary>
    public async Task KillAsync()
    {
        await Proc.CheckAsync("kill", ["-KILL", $"{Pid}"]);
        await WaitForStateAsync("shut off");
    }

    public async Task WaitForStateAsync(string state)
    {
        using var limit = new CancellationTokenSource(BootLimit);
        while ((await libvirt.VirshAsync("domstate", name)).Trim() != state) await Task.Delay(150, limit.Token);
    }

    private async Task<T> WithAgentAsync<T>(Func<LabGuestAgent, CancellationToken, Task<T>> use)
    {
        using var limit = new CancellationTokenSource(BootLimit);
        while (true)
        {
            try
            {
                await using var agent = await LabGuestAgent.ConnectAsync(AgentPath, limit.Token);
                return await use(agent, limit.Token);
            }
            catch (SocketException) when (!limit.IsCancellationRequested)
            {
                await Task.Delay(50, limit.Token);
            }
            catch (OperationCanceledException)
            {
                throw new TimeoutException($"The guest of {name} did not answer within {BootLimit.TotalSeconds:0} s.\n{await File.ReadAllTextAsync(libvirt.File($"{name}.log"))}");
            }
        }
    }
}
