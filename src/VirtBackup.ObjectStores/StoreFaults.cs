using System.Runtime.InteropServices;
using VirtBackup.Core;

namespace VirtBackup.ObjectStores;

/// <summary>Turns errors of the operating system into failures that people can act on.</summary>
internal sealed class StoreFaults(string root)
{
    /// <param name="action">What failed, as in "cannot <c>read packs/1</c>".</param>
    /// <param name="errno">Linux error number.</param>
    public FaultException FromErrno(string action, int errno) => Describe(action, errno, Marshal.GetPInvokeErrorMessage(errno), null);

    public FaultException FromException(string action, Exception exception) => exception switch
    {
        FaultException fault => fault,
        UnauthorizedAccessException => Describe(action, Errno.AccessDenied, exception.Message, exception),
        _ => Describe(action, ErrnoOf(exception), exception.Message, exception),
    };

    public static bool IsSystemError(Exception exception) => exception is IOException or UnauthorizedAccessException;

    public static bool IsNameTaken(IOException exception) => ErrnoOf(exception) == Errno.Exists;

    public static FaultException OpenedForReading(string root) =>
        new(FaultReason.Denied, $"The repository {root} was opened for reading only: open it as its owner to change it.");

    /// <summary>Free bytes for this user, or null where the system does not say.</summary>
    public long? FreeBytes()
    {
        try
        {
            return new DriveInfo(root).AvailableFreeSpace;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return null;
        }
    }

    private FaultException Describe(string action, int errno, string detail, Exception? inner) => errno switch
    {
        Errno.NoSpace or Errno.QuotaExceeded => new FaultException(
            FaultReason.DeviceFull,
            $"Cannot {action}: the device or quota of the repository {root} is full ({FreeBytes()?.ToString() ?? "unknown"} bytes free). Free space there or enlarge it, then try again.",
            inner),
        Errno.ReadOnlyFileSystem => new FaultException(
            FaultReason.Denied, $"Cannot {action}: the file system of the repository {root} is read-only. Check the device and mount it for writing.", inner),
        Errno.AccessDenied or Errno.NotPermitted => new FaultException(
            FaultReason.Denied, $"Cannot {action}: this user may not do that in the repository {root}. Check the owner and permissions of the folder.", inner),
        Errno.NotAFolder or Errno.SymbolicLink => new FaultException(
            FaultReason.FailedPrecondition,
            $"Cannot {action}: a symbolic link or a file stands where a folder or object of the repository {root} belongs. Remove it.", inner),
        Errno.OtherDevice => new FaultException(
            FaultReason.Unsupported, $"Cannot {action}: the folders of the repository {root} are on several file systems. Keep them on one.", inner),
        Errno.NoSuchFile => new FaultException(
            FaultReason.Unavailable, $"Cannot {action}: the repository {root} lost a file or folder while it was in use. Check that its device is still mounted.", inner),
        _ => new FaultException(FaultReason.Unavailable, $"Cannot {action}: the device of the repository {root} failed ({detail}). Check the device, then try again.", inner),
    };

    // On Unix .NET leaves the error number in HResult; on Windows it is an HRESULT of a Win32 error.
    private static int ErrnoOf(Exception exception) => exception switch
    {
        FileNotFoundException or DirectoryNotFoundException => Errno.NoSuchFile,
        _ when OperatingSystem.IsWindows() => (exception.HResult & 0xffff) switch
        {
            39 or 112 => Errno.NoSpace,
            1295 => Errno.QuotaExceeded,
            19 => Errno.ReadOnlyFileSystem,
            17 => Errno.OtherDevice,
            80 or 183 => Errno.Exists,
            _ => 0,
        },
        _ => exception.HResult,
    };
}

/// <summary>Linux error numbers (asm-generic/errno.h), which x86-64 and arm64 share.</summary>
internal static class Errno
{
    public const int NotPermitted = 1;
    public const int NoSuchFile = 2;
    public const int Again = 11;
    public const int AccessDenied = 13;
    public const int Exists = 17;
    public const int OtherDevice = 18;
    public const int NotAFolder = 20;
    public const int Invalid = 22;
    public const int NoSpace = 28;
    public const int ReadOnlyFileSystem = 30;
    public const int NotImplemented = 38;
    public const int SymbolicLink = 40;
    public const int NotSupported = 95;
    public const int QuotaExceeded = 122;
}
