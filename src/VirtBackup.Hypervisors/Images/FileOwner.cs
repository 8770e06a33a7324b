namespace VirtBackup.Hypervisors.Images;

/// <summary>Gives a new file the owner and rights of the one it takes the place of, whose user must be able to open it.</summary>
internal static class FileOwner
{
    private static readonly TimeSpan Timeout = TimeSpan.FromMinutes(1);

    /// <summary>Does nothing when there is no old file.</summary>
    public static async Task CopyAsync(string old, string file, ProcessRunner processes, CancellationToken cancellationToken)
    {
        if (!OperatingSystem.IsWindows() && File.Exists(old))
        {
            // Of what a link leads to: a link's own rights say nothing.
            File.SetUnixFileMode(file, File.GetUnixFileMode(File.ResolveLinkTarget(old, returnFinalTarget: true)?.FullName ?? old));
            await processes.RequireAsync("chown", [$"--reference={old}", file], Timeout, cancellationToken);
        }
    }
}
