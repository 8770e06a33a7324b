using System.Diagnostics;
using System.Runtime.InteropServices;

namespace VirtBackup.Cli.Services;

/// <summary>Runs another program in place of this one.</summary>
internal static class ProcessReplacement
{
    /// <summary>
    /// On Unix this process becomes the other program (execvp, POSIX.1-2017) and never returns. Elsewhere the program runs as a
    /// child in the same console, which delivers Ctrl-C to both.
    /// </summary>
    public static async Task<int> RunAsync(IReadOnlyList<string> command)
    {
        if (!OperatingSystem.IsWindows())
        {
            _ = execvp(command[0], [.. command, null]);
            throw new CommandFault(ExitCode.Failed, $"'{command[0]}' cannot be run: {Marshal.GetLastPInvokeErrorMessage()}.");
        }
        var start = new ProcessStartInfo(command[0]) { UseShellExecute = false };
        foreach (var argument in command.Skip(1))
        {
            start.ArgumentList.Add(argument);
        }
        using var process = Process.Start(start) ?? throw new CommandFault(ExitCode.Failed, $"'{command[0]}' cannot be run.");
        await process.WaitForExitAsync(CancellationToken.None);
        return process.ExitCode;
    }

    [DllImport("libc", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int execvp(
        [MarshalAs(UnmanagedType.LPUTF8Str)] string file, [MarshalAs(UnmanagedType.LPArray, ArraySubType = UnmanagedType.LPUTF8Str)] string?[] arguments);
}
