using System.Globalization;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Moving;
using VirtBackup.Hypervisors.Qemu.Comparing;

namespace VirtBackup.Hypervisors.Qemu.Moving;

/// <summary>Which QEMU process a monitor belongs to, by command lines (proc(5)): also one that does not listen yet, or any more.</summary>
internal static class QemuMonitors
{
    /// <summary>Whether the machine can be asked; false: its process has ended.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.HypervisorUnavailable"/>: it has a process, but nobody listens.</exception>
    public static async Task<bool> IsListeningAsync(QemuMachine machine, CancellationToken cancellationToken) =>
        await JsonLineSocket.IsListeningAsync(machine.QmpSocket, cancellationToken) || (FindProcess(machine.QmpSocket) is { } pid
            ? throw new FaultException(FaultReason.HypervisorUnavailable, $"A QEMU process of this host (pid {pid}) belongs to {machine.Name}, but nobody listens at its monitor {machine.QmpSocket}.") : false);

    /// <summary>Its process id; null: there is none, or it is somebody else's.</summary>
    public static int? FindProcess(string socket)
    {
        if (!Directory.Exists("/proc/self"))
        {
            return null;
        }
        foreach (var folder in Directory.EnumerateDirectories("/proc"))
        {
            if (int.TryParse(Path.GetFileName(folder), NumberStyles.None, CultureInfo.InvariantCulture, out var pid) && IsServing(folder, socket))
            {
                return pid;
            }
        }
        return null;
    }

    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: a process runs the machine on disks that were retired, or on files of the folder.</exception>
    public static void RequireUnused(Id16 machine, RetiredRecord record, string? folder)
    {
        if (FindUser(machine, record.Files.SelectMany(static file => new[] { file.From, file.To }).ToHashSet(StringComparer.Ordinal), folder) is { } pid)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The disks of {record.Name} are not deleted: a QEMU process of this host (pid {pid}) runs it on them. Stop it first.");
        }
    }

    private static int? FindUser(Id16 machine, HashSet<string> files, string? folder)
    {
        foreach (var (pid, uuid, _) in IdentityComparison.ListProcesses())
        {
            if (uuid == machine && HasOpen(pid, path => files.Contains(path) || (folder is not null && path.StartsWith(folder.TrimEnd('/') + "/", StringComparison.Ordinal))))
            {
                return pid;
            }
        }
        return null;
    }

    // Another one with its UUID may be the machine where it moved to, on the same host.
    private static bool HasOpen(int pid, Func<string, bool> isAsked)
    {
        try
        {
            return Directory.EnumerateFiles($"/proc/{pid}/fd").Any(path => new FileInfo(path).LinkTarget is { } target && isAsked(target));
        }
        catch (Exception gone) when (gone is IOException or UnauthorizedAccessException)
        {
            return Directory.Exists($"/proc/{pid}");
        }
    }

    private static bool IsServing(string folder, string socket)
    {
        try
        {
            var arguments = File.ReadAllText(Path.Combine(folder, "cmdline")).Split('\0', StringSplitOptions.RemoveEmptyEntries);
            return arguments is [var program, ..] && Path.GetFileName(program).StartsWith("qemu-system-", StringComparison.Ordinal)
                && arguments.Any(argument => argument.Split(',', ':', '=').Contains(socket, StringComparer.Ordinal));
        }
        catch (Exception gone) when (gone is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}
