using System.Text;

namespace VirtBackup.Hypervisors.Tpm;

/// <summary>A process of the TPM emulator swtpm, which serves one machine.</summary>
/// <param name="Arguments">Without the program.</param>
/// <param name="StateFolder">Where it keeps the TPM's state; absolute.</param>
internal sealed record TpmEmulator(int Pid, string Executable, IReadOnlyList<string> Arguments, string StateFolder)
{
    public const string Program = "swtpm";
    private const string LockFile = "/.lock";

    /// <summary>The one that listens at a control socket; null: none that can be seen, or its state lies in no folder.</summary>
    public static TpmEmulator? FindBySocket(string socket) => ListeningProcess.Find(socket, Program) is { } pid ? TryRead(pid) : null;

    /// <summary>The one whose state lies in a folder that fits; null: none that can be seen.</summary>
    public static TpmEmulator? FindByFolder(Func<string, bool> fits) =>
        ListeningProcess.OfProgram(Program).Select(TryRead).FirstOrDefault(emulator => emulator is not null && fits(emulator.StateFolder));

    private static TpmEmulator? TryRead(int pid)
    {
        try
        {
            var arguments = Encoding.UTF8.GetString(File.ReadAllBytes($"/proc/{pid}/cmdline")).TrimEnd('\0').Split('\0')[1..];
            var directory = new FileInfo($"/proc/{pid}/cwd").LinkTarget ?? "/";
            // What it has locked is where it writes, whatever its arguments say; before it serves somebody it has nothing locked.
            var folder = ListeningProcess.OpenFiles(pid).FirstOrDefault(file => file.EndsWith(LockFile, StringComparison.Ordinal))?[..^LockFile.Length]
                ?? TpmEmulatorCommand.StateFolderOf(arguments, directory);
            return folder is null ? null : new TpmEmulator(pid, new FileInfo($"/proc/{pid}/exe").LinkTarget ?? Program, arguments, folder);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
