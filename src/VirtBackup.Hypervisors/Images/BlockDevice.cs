using System.Runtime.InteropServices;

namespace VirtBackup.Hypervisors.Images;

/// <summary>A device of this host that holds a disk.</summary>
internal static class BlockDevice
{
    private const int Exclusive = 0x80; // O_EXCL, fcntl(2): without O_CREAT it asks for a block device that nobody holds
    private const int Busy = 16; // EBUSY

    /// <summary>Whether the path leads to a device.</summary>
    public static bool Is(string path) => Target(path).StartsWith("/dev/", StringComparison.Ordinal) && !Target(path).StartsWith("/dev/shm/", StringComparison.Ordinal);

    /// <summary>Whether this host itself uses the device: a mounted file system, swap, a volume group, a RAID on it or on a part of it.</summary>
    public static bool IsHeldByHost(string path)
    {
        var descriptor = Open(path, Exclusive);
        if (descriptor < 0)
        {
            return Marshal.GetLastPInvokeError() == Busy;
        }
        _ = Close(descriptor);
        return false;
    }

    private static string Target(string path) => File.Exists(path) ? File.ResolveLinkTarget(path, returnFinalTarget: true)?.FullName ?? path : path;

    [DllImport("libc", EntryPoint = "open", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Open([MarshalAs(UnmanagedType.LPUTF8Str)] string path, int flags);

    [DllImport("libc", EntryPoint = "close", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Close(int descriptor);
}
