using System.Text.Json;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Testing.Installations;

/// <summary>A machine that a restore started. Disposal kills it.</summary>
public sealed class RestoredVm : IAsyncDisposable
{
    private static readonly TimeSpan BootLimit = TimeSpan.FromMinutes(4);
    private readonly int _pid;
    private readonly string _agentSocket;

    private RestoredVm(int pid, string agentSocket)
    {
        _pid = pid;
        _agentSocket = agentSocket;
    }

    /// <param name="result">What <c>restore run</c> printed.</param>
    public static RestoredVm Of(JsonElement result)
    {
        var details = result.GetProperty("result").GetProperty("restore").GetProperty("details").EnumerateArray()
            .ToDictionary(detail => detail.GetProperty("name").GetString()!, detail => detail.GetProperty("value").GetString()!);
        return new RestoredVm(int.Parse(details["pid"], System.Globalization.CultureInfo.InvariantCulture), details["guest agent socket"]);
    }

    /// <param name="folder">Where a machine was restored to that runs.</param>
    public static RestoredVm InFolder(string folder)
    {
        using var record = JsonDocument.Parse(File.ReadAllText(Path.Combine(folder, "launch.json")));
        var pid = ProcessesNaming(record.RootElement.GetProperty("qmpSocket").GetString()!).Single();
        return new RestoredVm(pid, record.RootElement.GetProperty("guestAgentSocket").GetString() ?? "");
    }

    /// <summary>Processes whose command lines hold a text, such as the path of a socket.</summary>
    /// <param name="program">How the names of their programs begin.</param>
    public static IReadOnlyList<int> ProcessesNaming(string text, string program = "qemu-system-")
    {
        var found = new List<int>();
        foreach (var path in Directory.EnumerateDirectories("/proc"))
        {
            try
            {
                if (int.TryParse(Path.GetFileName(path), out var pid) && File.ReadAllText(Path.Combine(path, "cmdline")) is var line
                    && Path.GetFileName(line.Split('\0')[0]).StartsWith(program, StringComparison.Ordinal) && line.Contains(text, StringComparison.Ordinal))
                {
                    found.Add(pid);
                }
            }
            catch (Exception gone) when (gone is IOException or UnauthorizedAccessException)
            {
                // It has ended meanwhile.
            }
        }
        return found;
    }

    /// <summary>Reads a file in the guest, waiting until it has booted.</summary>
    public async Task<byte[]> ReadFileAsync(string path)
    {
        using var limit = new CancellationTokenSource(BootLimit);
        await using var agent = await LabGuestAgent.ConnectAsync(_agentSocket, limit.Token);
        return await agent.ReadFileAsync(path, limit.Token);
    }

    public async ValueTask DisposeAsync()
    {
        await Proc.RunAsync("kill", ["-KILL", $"{_pid}"]);
        await Installation.PollAsync($"the end of process {_pid}", () => Task.FromResult(!Directory.Exists($"/proc/{_pid}") || IsZombie()));
    }

    // A child of an agent that does not wait for it stays as an entry without files.
    private bool IsZombie()
    {
        try
        {
            return File.ReadAllText($"/proc/{_pid}/stat").Split(") ")[^1].StartsWith('Z');
        }
        catch (IOException)
        {
            return true;
        }
    }
}
