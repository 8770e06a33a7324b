using System.Diagnostics;
using System.Globalization;

namespace VirtBackup.Hypervisors.Images;

/// <summary>
/// Ends image servers that an agent left when it was killed: one that nobody has connected to yet waits for ever, and its
/// image's lock keeps the machine from starting.
/// </summary>
internal static class OrphanedServers
{
    /// <summary>Whoever has lost its parent belongs to the first process (on Linux).</summary>
    private const int FirstProcess = 1;

    /// <param name="program">The server's program.</param>
    public static void End(string program)
    {
        if (!Directory.Exists("/proc/self"))
        {
            return;
        }
        foreach (var folder in Directory.EnumerateDirectories("/proc"))
        {
            if (int.TryParse(Path.GetFileName(folder), NumberStyles.None, CultureInfo.InvariantCulture, out var pid) && IsOrphan(folder, program))
            {
                End(pid);
            }
        }
    }

    private static bool IsOrphan(string folder, string program)
    {
        try
        {
            return File.ReadAllText(Path.Combine(folder, "cmdline")).Split('\0') is [var name, "--socket", var socket, ..]
                && Path.GetFileName(name) == Path.GetFileName(program) && IsOurs(socket) && ParentOf(File.ReadAllText(Path.Combine(folder, "stat"))) == FirstProcess;
        }
        catch (Exception gone) when (gone is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    // In a folder of temporary files, or beside the images of a restore.
    private static bool IsOurs(string socket) =>
        Path.GetFileName(Path.GetDirectoryName(socket))?.StartsWith("virtbackup-", StringComparison.Ordinal) == true
        || (Path.GetFileName(socket).StartsWith("image-", StringComparison.Ordinal) && socket.EndsWith(".sock", StringComparison.Ordinal));

    // proc(5): the program's name stands in parentheses and may hold anything; state and parent follow.
    private static int? ParentOf(string stat) =>
        stat[(stat.LastIndexOf(')') + 1)..].Split(' ', StringSplitOptions.RemoveEmptyEntries) is [_, var parent, ..] && int.TryParse(parent, NumberStyles.None, CultureInfo.InvariantCulture, out var pid) ? pid : null;

    private static void End(int pid)
    {
        try
        {
            using var process = Process.GetProcessById(pid);
            process.Kill();
        }
        catch (Exception gone) when (gone is ArgumentException or InvalidOperationException or System.ComponentModel.Win32Exception)
        {
            // It ended by itself, or is not ours to end.
        }
    }
}
