using System.Globalization;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Qemu.Comparing;

/// <summary>Whether name and UUID are free on this host: among the configured machines, and among all QEMU processes.</summary>
internal sealed class IdentityComparison(IReadOnlyList<QemuMachine> machines)
{
    public async Task<IReadOnlyList<RestoreFinding>> CompareAsync(RestoreRequest request, CancellationToken cancellationToken)
    {
        var findings = new List<RestoreFinding>();
        if (!request.KeepIdentity)
        {
            findings.Add(new RestoreFinding("identity", FindingSeverity.Adapts, "UUID and MAC addresses are made anew; the copy can run beside the original."));
        }
        var clashes = 0;
        if (request.Adopt)
        {
            // It still runs where it comes from, and is not started here before it does not.
            return [new RestoreFinding("identity", FindingSeverity.Fits, $"{request.Name} keeps its UUID and MAC addresses, and is started here when it is off where it comes from.")];
        }
        foreach (var machine in machines.Where(machine => (request.KeepIdentity && machine.Uuid == request.Machine) || machine.Name == request.Name))
        {
            clashes++;
            findings.Add(await JudgeAsync(request, machine, cancellationToken));
        }
        var configured = machines.Select(machine => machine.Uuid).ToHashSet();
        foreach (var process in ListProcesses().Where(process => process.Uuid is not { } uuid || !configured.Contains(uuid)))
        {
            if (request.KeepIdentity && process.Uuid == request.Machine)
            {
                clashes++;
                findings.Add(new RestoreFinding("identity", FindingSeverity.Blocks,
                    $"A QEMU process of this host (pid {process.Pid}) runs with the UUID {request.Machine.ToUuidString()}. Stop it, or restore with a new identity."));
            }
            // Of the same one, too: who takes a new identity instead still has to choose another name.
            if (process.Name == request.Name)
            {
                clashes++;
                findings.Add(NameTaken(request, $"A QEMU process of this host (pid {process.Pid})"));
            }
        }
        if (clashes == 0)
        {
            findings.Add(new RestoreFinding("name", FindingSeverity.Fits, $"No machine of this host is called {request.Name}{(request.KeepIdentity ? " or has its UUID" : "")}."));
        }
        return findings;
    }

    private static async Task<RestoreFinding> JudgeAsync(RestoreRequest request, QemuMachine machine, CancellationToken cancellationToken)
    {
        // Listening is enough: a monitor that is busy or refuses belongs to a running machine, too.
        var isRunning = await JsonLineSocket.IsListeningAsync(machine.QmpSocket, cancellationToken);
        if (!request.KeepIdentity)
        {
            return NameTaken(request, $"The {(isRunning ? "running" : "configured")} machine {machine.Uuid.ToUuidString()} of this host");
        }
        return isRunning
            ? new RestoreFinding("identity", FindingSeverity.Blocks,
                $"The machine {machine.Name} ({machine.Uuid.ToUuidString()}) is running on this host. Stop it, or restore with a new identity and another name.")
            : new RestoreFinding("identity", FindingSeverity.Adapts,
                $"The restored machine takes the place of {machine.Name} ({machine.Uuid.ToUuidString()}), which is not running: never start both.");
    }

    private static RestoreFinding NameTaken(RestoreRequest request, string who) => new(
        "name", FindingSeverity.Adapts, $"{who} is called {request.Name}, too. Both can run, but people will mistake them: --name gives the restored one another.");

    /// <summary>QEMU processes by their command lines (proc(5)); those that cannot be read are somebody else's.</summary>
    public static IEnumerable<(int Pid, Id16? Uuid, string? Name)> ListProcesses()
    {
        if (!Directory.Exists("/proc/self"))
        {
            yield break;
        }
        foreach (var folder in Directory.EnumerateDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(folder), NumberStyles.None, CultureInfo.InvariantCulture, out var pid) || ReadArguments(folder) is not [var program, ..] arguments
                || !Path.GetFileName(program).StartsWith("qemu-system-", StringComparison.Ordinal))
            {
                continue;
            }
            var options = Argv.Parse(arguments[1..]);
            var name = options.LastOrDefault(option => option.Name == "name").Value is { } value && OptionText.Parse(value) is var text ? text["guest"] ?? text.Head : null;
            yield return (pid, Id16.TryParse(options.LastOrDefault(option => option.Name == "uuid").Value ?? "", out var uuid) ? uuid : null, name);
        }
    }

    private static string[]? ReadArguments(string folder)
    {
        try
        {
            return File.ReadAllText(Path.Combine(folder, "cmdline")).Split('\0', StringSplitOptions.RemoveEmptyEntries);
        }
        catch (Exception gone) when (gone is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
