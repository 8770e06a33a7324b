using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;

namespace VirtBackup.Nbd.Tests;

/// <summary>A real server on a Unix socket in a temporary folder of its own. Both programs go to the background once they listen.</summary>
internal sealed class NbdServerProcess : IDisposable
{
    private readonly int _pid;

    private NbdServerProcess(string socket, int pid) => (Endpoint, _pid) = (NbdEndpoint.Unix(socket), pid);

    public NbdEndpoint Endpoint { get; }

    public static NbdServerProcess StartQemuNbd(TempFolder folder, params string[] arguments) =>
        Start(folder, (socket, pidFile) => ["qemu-nbd", "--fork", "--persistent", "--shared=8", "--socket=" + socket, "--pid-file=" + pidFile, .. arguments]);

    public static NbdServerProcess StartNbdkit(TempFolder folder, params string[] arguments) =>
        Start(folder, (socket, pidFile) => ["nbdkit", "--unix", socket, "--pidfile", pidFile, .. arguments]);

    /// <summary>Ends the process at once, as a crash would.</summary>
    public void Kill()
    {
        try
        {
            using var process = Process.GetProcessById(_pid);
            process.Kill();
            // Not WaitForExit: it looks only every two seconds at processes that are not our children.
            while (IsAlive(_pid))
            {
                Thread.Sleep(1);
            }
        }
        catch (ArgumentException)
        {
            // Gone already.
        }
    }

    public void Dispose() => Kill();

    private static bool IsAlive(int pid)
    {
        try
        {
            var status = File.ReadAllText($"/proc/{pid}/stat");
            return status[status.LastIndexOf(')') + 2] != 'Z';
        }
        catch (IOException)
        {
            return false;
        }
    }

    /// <summary>Runs a tool to its end; its standard error goes into the exception when it fails.</summary>
    public static void Run(TempFolder folder, params string[] command)
    {
        var log = folder.File("stderr-" + Guid.NewGuid().ToString("n"));
        // The redirection is the shell's: a pipe of ours would stay open in a server that went to the background.
        var start = new ProcessStartInfo("/bin/sh") { ArgumentList = { "-c", "exec \"$@\" >\"$0\" 2>&1 </dev/null", log } };
        foreach (var word in command)
        {
            start.ArgumentList.Add(word);
        }
        using var process = Process.Start(start) ?? throw new Win32Exception();
        process.WaitForExit();
        if (process.ExitCode == 127)
        {
            throw new InvalidOperationException($"{command[0]} is not installed. Run deploy/lab/install-dependencies.sh.");
        }
        if (process.ExitCode != 0)
        {
            throw new InvalidOperationException($"{string.Join(' ', command)} failed: {File.ReadAllText(log)}");
        }
    }

    private static NbdServerProcess Start(TempFolder folder, Func<string, string, string[]> command)
    {
        var name = Guid.NewGuid().ToString("n")[..8];
        var socket = folder.File(name + ".sock");
        var pidFile = folder.File(name + ".pid");
        Run(folder, command(socket, pidFile));
        // Both write their number once they listen; nbdkit does so after its parent has returned.
        var waiting = Stopwatch.StartNew();
        int pid;
        while (!File.Exists(pidFile) || !int.TryParse(File.ReadAllText(pidFile), CultureInfo.InvariantCulture, out pid))
        {
            Assert.True(waiting.Elapsed < TimeSpan.FromSeconds(20), "The server did not say that it listens.");
            Thread.Sleep(1);
        }
        return new NbdServerProcess(socket, pid);
    }
}

internal sealed class TempFolder : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("vb-nbd-");

    public string File(string name) => Path.Combine(_folder.FullName, name);

    public void Dispose() => _folder.Delete(recursive: true);
}
