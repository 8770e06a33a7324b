using System.Globalization;

namespace VirtBackup.Hypervisors.Tpm;

/// <summary>
/// Finds which process listens on a socket, from what the kernel tells (proc(5)). Nothing is connected to: a program that serves
/// one client would take the question for one.
/// </summary>
internal static class ListeningProcess
{
    private const string AcceptsConnections = "00010000"; // include/linux/net.h, __SO_ACCEPTCON

    /// <summary>Processes of a program, by the name that the kernel keeps of it.</summary>
    public static IEnumerable<int> OfProgram(string name)
    {
        foreach (var folder in Directory.EnumerateDirectories("/proc"))
        {
            if (int.TryParse(Path.GetFileName(folder), NumberStyles.None, CultureInfo.InvariantCulture, out var pid)
                && TryRead($"{folder}/comm")?.Trim() is { } command && command.StartsWith(name, StringComparison.Ordinal))
            {
                yield return pid;
            }
        }
    }

    /// <summary>The process of <paramref name="program"/> that listens at the path; null: none that this process may see.</summary>
    public static int? Find(string socket, string program)
    {
        var sockets = Listening(socket).Select(inode => $"socket:[{inode}]").ToHashSet(StringComparer.Ordinal);
        return sockets.Count == 0 ? null : OfProgram(program).Where(pid => OpenFiles(pid).Any(sockets.Contains)).Cast<int?>().FirstOrDefault();
    }

    public static bool IsListening(string socket) => Listening(socket).Any();

    /// <summary>What a process has open, as the kernel names it; nothing when it may not be looked at.</summary>
    public static IReadOnlyList<string> OpenFiles(int pid)
    {
        var files = new List<string>();
        try
        {
            foreach (var descriptor in Directory.EnumerateFiles($"/proc/{pid}/fd"))
            {
                if (new FileInfo(descriptor).LinkTarget is { } target)
                {
                    files.Add(target);
                }
            }
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            // It has just ended, or belongs to somebody else.
        }
        return files;
    }

    // Num RefCount Protocol Flags Type St Inode Path
    private static IEnumerable<string> Listening(string socket) =>
        (TryRead("/proc/net/unix") ?? "").Split('\n').Select(line => line.Split(' ', 8, StringSplitOptions.RemoveEmptyEntries))
            .Where(fields => fields.Length == 8 && fields[3] == AcceptsConnections && fields[7] == socket).Select(fields => fields[6]);

    private static string? TryRead(string path)
    {
        try
        {
            return File.ReadAllText(path);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
