using System.Runtime.InteropServices;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors;

/// <summary>Forces names in a folder to stable storage: a file survives a power loss only when its folder's entry does (fsync(2)).</summary>
internal static class DurableFolder
{
    private const int ReadOnlyDirectory = 0x10000; // O_RDONLY | O_DIRECTORY on x86-64
    private const int ReadOnlyDirectoryArm = 0x4000;

    public static void Flush(string folder)
    {
        var flags = RuntimeInformation.ProcessArchitecture is Architecture.Arm or Architecture.Arm64 ? ReadOnlyDirectoryArm : ReadOnlyDirectory;
        var descriptor = Open(folder, flags);
        var failed = descriptor < 0 || Sync(descriptor) != 0;
        var error = Marshal.GetLastPInvokeErrorMessage();
        if (descriptor >= 0)
        {
            _ = Close(descriptor);
        }
        if (failed)
        {
            throw new FaultException(FaultReason.Unavailable, $"The folder {folder} could not be forced to stable storage: {error}.");
        }
    }

    [DllImport("libc", EntryPoint = "open", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Open([MarshalAs(UnmanagedType.LPUTF8Str)] string path, int flags);

    [DllImport("libc", EntryPoint = "fsync", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Sync(int descriptor);

    [DllImport("libc", EntryPoint = "close", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Close(int descriptor);
}
