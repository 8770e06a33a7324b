using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Images;

/// <summary>
/// Writes a file past the page cache (open(2), O_DIRECT): a restored disk is not read again soon, and the host's memory is
/// its guests'. What the file system or the data do not allow is left to the caller. Safe for concurrent use.
/// </summary>
internal sealed class UncachedFile : IDisposable
{
    private const int GetFlags = 3; // F_GETFL
    private const int SetFlags = 4; // F_SETFL
    private const int KeepSize = 1; // FALLOC_FL_KEEP_SIZE
    private const int InvalidArgument = 22; // EINVAL
    private readonly SafeFileHandle file;
    private volatile bool refused;

    private UncachedFile(SafeFileHandle file) => this.file = file;

    /// <summary>Null where the file system or the system does not know such writes.</summary>
    public static UncachedFile? TryOpen(string path)
    {
        var direct = RuntimeInformation.ProcessArchitecture switch
        {
            Architecture.X64 => 0x4000, // O_DIRECT differs between architectures
            Architecture.Arm64 => 0x10000,
            _ => 0,
        };
        if (direct == 0 || !OperatingSystem.IsLinux())
        {
            return null;
        }
        var file = File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, FileOptions.Asynchronous);
        var flags = Control(file, GetFlags, 0);
        if (flags >= 0 && Control(file, SetFlags, flags | direct) >= 0)
        {
            return new UncachedFile(file);
        }
        file.Dispose();
        return null;
    }

    /// <summary>Writes, or returns false when nothing was written because it must go through the page cache.</summary>
    /// <exception cref="IOException">The device failed or is full.</exception>
    public async ValueTask<bool> TryWriteAsync(long offset, ReadOnlyMemory<byte> source, CancellationToken cancellationToken)
    {
        if (refused || !IsAligned(offset, source))
        {
            return false;
        }
        // Writers into reserved blocks do not wait for each other; a refusal is of no consequence.
        _ = Allocate(file, KeepSize, offset, source.Length);
        try
        {
            await RandomAccess.WriteAsync(file, source, offset, cancellationToken);
            return true;
        }
        catch (IOException failure) when ((failure.HResult & 0xffff) == InvalidArgument)
        {
            refused = true;
            return false;
        }
    }

    public void Dispose() => file.Dispose();

    private static bool IsAligned(long offset, ReadOnlyMemory<byte> source) =>
        (offset | (long)source.Length) % Limits.PageBytes == 0
        && MemoryMarshal.TryGetArray(source, out var array) && array.Array is { Length: > 0 } bytes
        && Marshal.UnsafeAddrOfPinnedArrayElement(bytes, array.Offset) % Limits.PageBytes == 0;

    [DllImport("libc", EntryPoint = "fcntl", SetLastError = false)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Control(SafeFileHandle file, int command, int argument);

    [DllImport("libc", EntryPoint = "fallocate", SetLastError = false)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Allocate(SafeFileHandle file, int mode, long offset, long length);
}
