using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace VirtBackup.Hypervisors.Images;

/// <summary>
/// Has the system begin to write a growing file out while it is still being made (sync_file_range(2),
/// SYNC_FILE_RANGE_WRITE), so that the flush at the end finds little left to do. Only a hint: a failure is of no
/// consequence, and a device's error is still reported by that flush. Safe for concurrent use.
/// </summary>
internal sealed class EarlyWriteBack(SafeFileHandle file)
{
    private const long StepBytes = 32 << 20;
    private const uint Write = 2; // SYNC_FILE_RANGE_WRITE
    private long _dirty;

    /// <summary>Notes that <paramref name="bytes"/> were written.</summary>
    public void Note(int bytes)
    {
        var dirty = Interlocked.Add(ref _dirty, bytes);
        if (dirty >= StepBytes && Interlocked.CompareExchange(ref _dirty, 0, dirty) == dirty)
        {
            _ = SyncFileRange(file, 0, 0, Write);
        }
    }

    [DllImport("libc", EntryPoint = "sync_file_range", SetLastError = false)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int SyncFileRange(SafeFileHandle file, long offset, long length, uint flags);
}
