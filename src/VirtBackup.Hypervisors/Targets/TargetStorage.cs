using System.Globalization;
using System.Runtime.InteropServices;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Targets;

/// <summary>The file system that restored disks would lie on. Read from the system, nothing is written.</summary>
/// <param name="Folder">The nearest folder above the target that exists.</param>
/// <param name="Kind">As the kernel calls it: <c>ext4</c>, <c>xfs</c>, <c>tmpfs</c>, <c>nfs4</c>; empty: it cannot be told.</param>
/// <param name="Source">The device or export that is mounted; empty: it cannot be told.</param>
/// <param name="MountPoint">Where it is mounted; empty: it cannot be told.</param>
/// <param name="FreeBytes">Free for this process.</param>
/// <param name="SectorBytes">Logical sector of the device below; null where there is none, or it cannot be told.</param>
/// <param name="WriteProblem">Why this process cannot write there, or null.</param>
internal sealed record TargetStorage(string Folder, string Kind, string Source, string MountPoint, long FreeBytes, int? SectorBytes, string? WriteProblem)
{
    private const int WriteAndEnter = 2 | 1; // W_OK | X_OK

    /// <summary>The same words as long as the same thing is mounted there: estimates are judged by restores to the same one.</summary>
    public string Name => Kind.Length == 0 ? Folder : $"{MountPoint} ({Kind} on {Source})";

    /// <summary>Looks at the file system of a folder, which need not exist yet.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: it cannot be looked at.</exception>
    public static TargetStorage Of(string folder)
    {
        while (!Directory.Exists(folder) && Path.GetDirectoryName(folder) is { } parent)
        {
            folder = parent;
        }
        var mount = MountTable.Find(folder);
        return new TargetStorage(
            folder, mount?.Kind ?? "", mount?.Source ?? "", mount?.MountPoint ?? "", FreeSpace.Of(folder), mount is null ? null : SectorOf(mount.Device), WriteProblemOf(folder));
    }

    private static string? WriteProblemOf(string folder)
    {
        if (!OperatingSystem.IsLinux() || Access(folder, WriteAndEnter) == 0)
        {
            return null;
        }
        return Marshal.GetLastPInvokeError() switch
        {
            13 => "the agent's account may not write there",
            30 => "it is mounted read-only",
            var error => $"the system refuses it ({Marshal.GetPInvokeErrorMessage(error)})",
        };
    }

    // A partition's queue is its disk's.
    private static int? SectorOf(string device)
    {
        foreach (var place in new[] { "queue", "../queue" })
        {
            var file = $"/sys/dev/block/{device}/{place}/logical_block_size";
            try
            {
                if (File.Exists(file) && int.TryParse(File.ReadAllText(file).Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out var bytes))
                {
                    return bytes;
                }
            }
            catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
            {
                return null;
            }
        }
        return null;
    }

    [DllImport("libc", EntryPoint = "access", SetLastError = true, BestFitMapping = false)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Access([MarshalAs(UnmanagedType.LPUTF8Str)] string path, int mode);
}
