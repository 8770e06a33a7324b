using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace VirtBackup.ObjectStores;

/// <summary>
/// Linux system calls that .NET does not offer: work relative to an open folder, names given without overwriting, and
/// folders forced to stable storage, and a clock that goes on while the host sleeps. Flags as in the headers of x86-64 and arm64 (open(2), rename(2), flock(2), clock_gettime(2)).
/// </summary>
internal static partial class LinuxCalls
{
    public const int ReadOnly = 0;
    public const int ReadWrite = 2;
    public const int Create = 0x40;
    public const int OnlyNew = 0x80;
    public const int NonBlocking = 0x800;
    public const int CloseOnExec = 0x80000;
    public const int RenameNoReplace = 1;
    public const int LockExclusiveNow = 2 | 4;
    public const uint BeginWriting = 2;
    public const int BootClock = 7;

    /// <summary>Start at the working folder (AT_FDCWD).</summary>
    public const int WorkingFolder = -100;

    public static int OnlyFolder { get; } = IsArm ? 0x4000 : 0x10000;

    public static int NoFollow { get; } = IsArm ? 0x8000 : 0x20000;

    private static bool IsArm => RuntimeInformation.ProcessArchitecture is Architecture.Arm64 or Architecture.Arm;

    [LibraryImport("libc", EntryPoint = "openat", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int OpenAt(int folder, string path, int flags, uint mode);

    [LibraryImport("libc", EntryPoint = "openat", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int OpenAt(SafeFileHandle folder, string path, int flags, uint mode);

    [LibraryImport("libc", EntryPoint = "mkdirat", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int MakeFolderAt(SafeFileHandle folder, string path, uint mode);

    [LibraryImport("libc", EntryPoint = "unlinkat", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int UnlinkAt(SafeFileHandle folder, string path, int flags);

    [LibraryImport("libc", EntryPoint = "linkat", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int LinkAt(SafeFileHandle fromFolder, string from, SafeFileHandle toFolder, string to, int flags);

    [LibraryImport("libc", EntryPoint = "renameat2", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int RenameAt(SafeFileHandle fromFolder, string from, SafeFileHandle toFolder, string to, uint flags);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    public static partial int Sync(SafeFileHandle file);

    /// <param name="length">0: to the end.</param>
    [LibraryImport("libc", EntryPoint = "sync_file_range")]
    public static partial int SyncFileRange(SafeFileHandle file, long offset, long length, uint flags);

    [LibraryImport("libc", EntryPoint = "syncfs", SetLastError = true)]
    public static partial int SyncFileSystem(SafeFileHandle file);

    [LibraryImport("libc", EntryPoint = "flock", SetLastError = true)]
    public static partial int Lock(SafeFileHandle file, int operation);

    [LibraryImport("libc", EntryPoint = "clock_gettime")]
    public static partial int ReadClock(int clock, out ClockTime time);

    /// <summary>As the kernel writes it (struct timespec).</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct ClockTime
    {
        public nint Seconds;
        public nint Nanoseconds;
    }
}
