using System.Runtime.InteropServices;

namespace VirtBackup.Hypervisors.Moving;

/// <summary>How much a file takes of its file system, holes left out (stat(2), st_blocks).</summary>
internal static class AllocatedFile
{
    private const int CurrentFolder = -100; // AT_FDCWD
    private const uint Blocks = 0x400; // STATX_BLOCKS
    private const int BlocksOffset = 48; // stx_blocks, in units of 512 bytes
    private const int StatxBytes = 256;

    /// <summary>The file's length where the system does not tell.</summary>
    public static long BytesOf(string path)
    {
        Span<byte> status = stackalloc byte[StatxBytes];
        return OperatingSystem.IsLinux() && Query(CurrentFolder, path, 0, Blocks, ref MemoryMarshal.GetReference(status)) == 0
            ? (long)Math.Min((ulong)long.MaxValue, BitConverter.ToUInt64(status[BlocksOffset..]) * 512) : new FileInfo(path).Length;
    }

    [DllImport("libc", EntryPoint = "statx", SetLastError = false, BestFitMapping = false)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Query(int folder, [MarshalAs(UnmanagedType.LPUTF8Str)] string path, int flags, uint mask, ref byte status);
}
