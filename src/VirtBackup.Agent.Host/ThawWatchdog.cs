using System.Runtime.InteropServices;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Hypervisors.Libvirt;
using VirtBackup.Hypervisors.Qemu;

namespace VirtBackup.Agent.Host;

/// <summary>
/// <c>virtbackup-agent thaw-watchdog</c>: a process of its own, in a session of its own, that outlives the agent for as long as a guest
/// has to be let go on. The agent starts it for each cut and speaks to it through its standard streams.
/// </summary>
internal static class ThawWatchdog
{
    public const string Verb = "thaw-watchdog";
    private const int Kill = 9;

    /// <summary>The guard that the agent uses: this same program.</summary>
    public static IFreezeGuard CreateGuard()
    {
        var program = Environment.ProcessPath ?? throw new InvariantException("The path of this program is not known.");
        var isRuntime = Path.GetFileNameWithoutExtension(program) == "dotnet";
        return new WatchdogGuard(program, isRuntime ? [Path.ChangeExtension(typeof(ThawWatchdog).Assembly.Location, ".dll"), Verb] : [Verb], TimeProvider.System);
    }

    /// <returns>The exit code: 1 when a guest could not be let go on.</returns>
    public static async Task<int> RunAsync()
    {
        // Neither a signal to the agent's group nor the end of its terminal is meant for this.
        _ = StartSession();
        using var hangUp = PosixSignalRegistration.Create(PosixSignal.SIGHUP, static context => context.Cancel = true);
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, static context => context.Cancel = true);
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, static context => context.Cancel = true);
        var agent = GetParent();
        IGuestRelease[] releases = [new QemuGuestRelease(TimeProvider.System, SystemEntropy.Instance), new LibvirtGuestRelease(new WaitingThreads(), TimeProvider.System)];
        var watch = new FreezeWatch(releases, TimeProvider.System, Log, () => End(agent));
        return await watch.RunAsync(Console.OpenStandardInput(), Console.OpenStandardOutput(), CancellationToken.None) ? 0 : 1;
    }

    private static void Log(string line)
    {
        try
        {
            Console.Error.WriteLine($"{DateTimeOffset.UtcNow:yyyy-MM-ddTHH:mm:ssZ} warn: thaw watchdog: {line}");
        }
        catch (IOException)
        {
            // Whoever read it is gone; the guest is not.
        }
    }

    // Its number is nobody else's for as long as it is still this process's parent.
    private static void End(int agent)
    {
        if (agent > 1 && GetParent() == agent)
        {
            _ = SendSignal(agent, Kill);
        }
    }

    [DllImport("libc", EntryPoint = "setsid")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int StartSession();

    [DllImport("libc", EntryPoint = "getppid")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int GetParent();

    [DllImport("libc", EntryPoint = "kill")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int SendSignal(int process, int signal);
}
