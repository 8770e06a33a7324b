using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace VirtBackup.Testing.Lab;

/// <summary>
/// A real VM: the lab guest under QEMU, on disks of its own in a directory of its own. The monitor and guest-agent
/// sockets at <see cref="QmpPath"/> and <see cref="GuestAgentPath"/> are left to the program under test; this class uses
/// a second monitor and a second agent inside the guest, so that tests and product never wait for each other's
/// connection. Disposal kills the VM and removes the directory.
/// </summary>
public sealed class LabVm : IAsyncDisposable
{
    private static readonly TimeSpan BootLimit = TimeSpan.FromMinutes(4);
    private static readonly TimeSpan EndLimit = TimeSpan.FromMinutes(2);
    private readonly LabDirectory directory;
    private readonly LabVmPaths paths;
    private readonly SemaphoreSlim agentTurn = new(1, 1);
    private BackgroundProc? qemu;
    private LabMonitor? monitor;

    private LabVm(LabVmOptions options, LabDirectory directory, LabVmPaths paths, Guid uuid, IReadOnlyList<LabVmDisk> disks, IReadOnlyList<string> arguments)
    {
        this.directory = directory;
        this.paths = paths;
        Name = options.Name;
        Uuid = uuid;
        Disks = disks;
        Arguments = arguments;
    }

    public const string Program = "qemu-system-x86_64";

    public string Name { get; }

    public Guid Uuid { get; }

    /// <summary>The arguments that QEMU was started with, without the program.</summary>
    public IReadOnlyList<string> Arguments { get; private set; }

    public IReadOnlyList<LabVmDisk> Disks { get; private set; }

    public string Directory => directory.Path;

    /// <summary>QEMU's monitor, for the program under test.</summary>
    public string QmpPath => paths.Qmp;

    /// <summary>The guest agent, for the program under test.</summary>
    public string GuestAgentPath => paths.GuestAgent;

    /// <summary>QEMU's process id; changes with <see cref="StartAgainAsync"/>.</summary>
    public int Pid => Running.Pid;

    public bool HasExited => qemu is null || qemu.HasExited;

    /// <summary>What the guest printed to its serial console.</summary>
    public string Console => File.Exists(paths.Serial) ? File.ReadAllText(paths.Serial) : "";

    private BackgroundProc Running => qemu ?? throw new InvalidOperationException("The VM is not running.");

    /// <summary>Builds the guest if need be, makes the disks and starts QEMU. The guest is still booting when this returns.</summary>
    public static async Task<LabVm> StartAsync(LabVmOptions? options = null, CancellationToken cancellationToken = default) =>
        await StartAsync(options ?? new LabVmOptions(), await LabGuest.GetAsync(cancellationToken), saved: null, cancellationToken);

    private static async Task<LabVm> StartAsync(LabVmOptions options, LabGuest guest, SavedGuest? saved, CancellationToken cancellationToken)
    {
        var directory = new LabDirectory();
        LabVm? vm = null;
        try
        {
            var paths = new LabVmPaths(directory.Path);
            var disks = new List<LabVmDisk>();
            foreach (var disk in options.AllDisks(guest))
            {
                disks.Add(new LabVmDisk(disk.NodeName, disk.Device, await PrepareAsync(disk, paths, saved, cancellationToken), disk.Format, disk.Bus));
            }
            var uuid = options.Uuid ?? Guid.NewGuid();
            vm = new LabVm(options, directory, paths, uuid, disks, LabVmArguments.For(options, uuid, guest, paths, disks));
            await vm.StartQemuAsync(saved is null ? [] : ["-incoming", "defer"], cancellationToken);
            if (saved is not null) await vm.GoOnAsync(saved, cancellationToken);
            return vm;
        }
        catch
        {
            if (vm is not null) await vm.DisposeAsync();
            directory.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Starts a VM as <see cref="StartAsync(LabVmOptions?, CancellationToken)"/> does and waits until its guest is up. It may go on from where a machine of
    /// its kind was saved, unless <see cref="LabVmOptions.FromItsFirmware"/> says otherwise.
    /// </summary>
    public static async Task<LabVm> BootAsync(LabVmOptions? options = null, CancellationToken cancellationToken = default)
    {
        options ??= new LabVmOptions();
        var guest = await LabGuest.GetAsync(cancellationToken);
        var saved = options.FromItsFirmware ? null : await SavedGuest.FindAsync(options, guest, cancellationToken);
        var vm = await StartAsync(options, guest, saved, cancellationToken);
        try
        {
            await vm.WaitForAgentAsync(cancellationToken);
            return vm;
        }
        catch
        {
            await vm.DisposeAsync();
            throw;
        }
    }

    public LabVmDisk Disk(string nodeName) =>
        Disks.FirstOrDefault(d => d.NodeName == nodeName) ?? throw new LabException($"The VM has no disk '{nodeName}'.");

    /// <summary>A disk lies elsewhere now, and the next start is to find it there.</summary>
    public void FollowMove(string deviceId, string newPath)
    {
        var old = Disks.Single(disk => disk.DeviceId == deviceId).Path;
        Disks = [.. Disks.Select(disk => disk.DeviceId == deviceId ? disk with { Path = newPath } : disk)];
        Arguments = [.. Arguments.Select(argument => argument.Replace(old, newPath, StringComparison.Ordinal))];
    }

    /// <summary>Starts QEMU once more on the same disks and with the same arguments, after it ended or was killed.</summary>
    public async Task StartAgainAsync(CancellationToken cancellationToken = default)
    {
        if (!HasExited) throw new InvalidOperationException("The VM is still running.");
        await StartQemuAsync([], cancellationToken);
    }

    private async Task StartQemuAsync(IEnumerable<string> further, CancellationToken cancellationToken)
    {
        await ReleaseAsync();
        foreach (var stale in new[] { paths.Qmp, paths.GuestAgent, paths.LabQmp, paths.LabAgent, paths.Serial }) File.Delete(stale);
        qemu = BackgroundProc.Start(Program, [.. Arguments, .. further], Directory);
        monitor = await RetryAsync(token => LabMonitor.ConnectAsync(paths.LabQmp, token), "QEMU's monitor", EndLimit, cancellationToken);
    }

    private async Task GoOnAsync(SavedGuest saved, CancellationToken cancellationToken)
    {
        await QmpAsync("migrate-incoming", new JsonObject { ["uri"] = saved.Uri }.ToJsonString(), cancellationToken);
        await WaitForMigrationAsync(cancellationToken);
        await QmpAsync("cont", null, cancellationToken);
        // It is as old as its memory.
        (await ExecAsync($"date -u -s @{DateTimeOffset.UtcNow.ToUnixTimeSeconds()}", cancellationToken: cancellationToken)).EnsureSuccess();
    }

    /// <summary>Waits until the machine's state has gone out or come in whole.</summary>
    internal async Task WaitForMigrationAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            var status = (await QmpAsync("query-migrate", null, cancellationToken)).TryGetProperty("status", out var said) ? said.GetString() : "none";
            if (status == "completed") return;
            if (status is "failed" or "cancelled") throw new LabException($"The machine's state did not come through: {status}.{Story()}");
            await Task.Delay(10, cancellationToken);
        }
    }

    /// <summary>Waits until the guest is up, its disks are mounted and its agents run.</summary>
    /// <exception cref="TimeoutException">It was not within two minutes; the message holds the guest's console.</exception>
    public async Task WaitForAgentAsync(CancellationToken cancellationToken = default) =>
        await WithAgentAsync((agent, token) => agent.ExecuteAsync("guest-ping", null, token), BootLimit, cancellationToken);

    /// <summary>Runs a line of shell in the guest to its end.</summary>
    /// <param name="timeout">Two minutes when not given.</param>
    public Task<GuestResult> ExecAsync(string line, TimeSpan? timeout = null, CancellationToken cancellationToken = default) =>
        WithAgentAsync((agent, token) => agent.ShellAsync(line, token), timeout ?? BootLimit, cancellationToken);

    /// <summary>Replaces a file in the guest and syncs it to its disk.</summary>
    public Task WriteFileAsync(string path, ReadOnlyMemory<byte> content, CancellationToken cancellationToken = default) =>
        WithAgentAsync(async (agent, token) =>
        {
            await agent.WriteFileAsync(path, content, token);
            return (await agent.ShellAsync("sync", token)).EnsureSuccess();
        }, BootLimit, cancellationToken);

    public Task<byte[]> ReadFileAsync(string path, CancellationToken cancellationToken = default) =>
        WithAgentAsync((agent, token) => agent.ReadFileAsync(path, token), BootLimit, cancellationToken);

    /// <summary>Executes a command of QEMU's monitor; <paramref name="argumentsJson"/> is a JSON object.</summary>
    public async Task<JsonElement> QmpAsync(string command, string? argumentsJson = null, CancellationToken cancellationToken = default)
    {
        try
        {
            return await Monitor.ExecuteAsync(command, argumentsJson is null ? null : JsonNode.Parse(argumentsJson), cancellationToken);
        }
        catch (TimeoutException silent)
        {
            throw new TimeoutException($"{silent.Message}{Story()}", silent);
        }
    }

    /// <inheritdoc cref="LabMonitor.WaitForEventAsync"/>
    public Task<JsonElement> WaitForEventAsync(string name, TimeSpan? timeout = null, CancellationToken cancellationToken = default) =>
        Monitor.WaitForEventAsync(name, timeout, cancellationToken);

    /// <summary>SIGKILL, as when the host loses power: nothing is flushed. Returns when the process is gone.</summary>
    public Task KillAsync(CancellationToken cancellationToken = default) => Running.KillAsync(cancellationToken);

    /// <summary>Ends QEMU in an orderly way, its images flushed, without telling the guest. Returns when it has ended.</summary>
    public async Task QuitAsync(CancellationToken cancellationToken = default)
    {
        await Monitor.ExecuteAsync("quit", null, cancellationToken);
        await EndAsync("quit", cancellationToken);
    }

    /// <summary>Presses the power button and waits until the guest has shut down and QEMU has ended.</summary>
    public async Task PowerDownAsync(CancellationToken cancellationToken = default)
    {
        await Monitor.ExecuteAsync("system_powerdown", null, cancellationToken);
        await EndAsync("the power button", cancellationToken);
    }

    public async ValueTask DisposeAsync()
    {
        await ReleaseAsync();
        directory.Dispose();
        agentTurn.Dispose();
    }

    private LabMonitor Monitor => monitor ?? throw new InvalidOperationException("The VM is not running.");

    private static async Task<string> PrepareAsync(LabDiskOptions disk, LabVmPaths paths, SavedGuest? saved, CancellationToken cancellationToken)
    {
        if (disk.UseInPlace is not null) return disk.UseInPlace;
        var path = paths.Image(disk);
        if (saved is not null) await SavedGuest.CopyAsync(saved.Disk(disk.NodeName), path, cancellationToken);
        else if (disk.CopyFrom is null) await LabDisk.CreateAsync(path, disk.Format, disk.Size, cancellationToken);
        else if (disk.Format == LabDiskFormat.Qcow2) File.Copy(disk.CopyFrom, path);
        else await LabDisk.ConvertAsync(disk.CopyFrom, LabDiskFormat.Qcow2, path, disk.Format, cancellationToken: cancellationToken);
        return path;
    }

    private async Task<T> WithAgentAsync<T>(Func<LabGuestAgent, CancellationToken, Task<T>> use, TimeSpan limit, CancellationToken cancellationToken)
    {
        using var limited = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limited.CancelAfter(limit);
        try
        {
            await agentTurn.WaitAsync(limited.Token);
            try
            {
                await using var agent = await LabGuestAgent.ConnectAsync(paths.LabAgent, limited.Token);
                return await use(agent, limited.Token);
            }
            finally
            {
                agentTurn.Release();
            }
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new TimeoutException($"The guest did not answer within {limit.TotalSeconds:0} s.{Story()}");
        }
        catch (Exception e) when (e is SocketException or IOException || (e is LabException && HasExited))
        {
            throw new LabException($"The VM has ended or its agent is gone: {e.Message}{Story()}", e);
        }
    }

    private async Task<T> RetryAsync<T>(Func<CancellationToken, Task<T>> connect, string what, TimeSpan limit, CancellationToken cancellationToken)
    {
        using var limited = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limited.CancelAfter(limit);
        while (true)
        {
            if (HasExited) throw new LabException($"QEMU ended at its start.{Story()}");
            try
            {
                return await connect(limited.Token);
            }
            catch (SocketException) when (!limited.IsCancellationRequested)
            {
                // The socket is not there yet: QEMU makes it a moment after its start.
                await Task.Delay(10, limited.Token);
            }
            catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
            {
                throw new TimeoutException($"{what} did not answer within {limit.TotalSeconds:0} s.{Story()}");
            }
        }
    }

    private async Task EndAsync(string cause, CancellationToken cancellationToken)
    {
        try
        {
            await Running.WaitForExitAsync(cancellationToken).WaitAsync(EndLimit, cancellationToken);
        }
        catch (TimeoutException)
        {
            throw new TimeoutException($"QEMU was still running {EndLimit.TotalSeconds:0} s after {cause}.{Story()}");
        }
    }

    private async Task ReleaseAsync()
    {
        if (monitor is not null) await monitor.DisposeAsync();
        if (qemu is not null) await qemu.DisposeAsync();
        monitor = null;
        qemu = null;
    }

    /// <summary>What QEMU and the guest printed, and what QEMU does now, for messages.</summary>
    private string Story() => new StringBuilder()
        .Append("\nMachine: ").Append(Name).Append("\nQEMU: ").Append(qemu?.Stderr).Append("\nThreads:\n").Append(HasExited ? null : qemu?.Threads).Append("Console: ").Append(Console).ToString();
}
