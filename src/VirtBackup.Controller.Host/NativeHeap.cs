using System.Runtime.InteropServices;

namespace VirtBackup.Controller.Host;

/// <summary>The C library's heap, from which SQLite and OpenSSL take their memory.</summary>
internal static class NativeHeap
{
    // malloc.h of glibc.
    private const int ArenaMaximum = -8;

    /// <summary>
    /// Keeps the C library's memory in one arena. By itself glibc opens up to eight for each core, and what a thread
    /// freed in one of them is of no use in another, so that a long restore grows with every thread that took part.
    /// To be called before the first database is opened. Does nothing on a C library without this setting.
    /// </summary>
    public static void UseOneArena()
    {
        if (!OperatingSystem.IsLinux())
        {
            return;
        }
        try
        {
            _ = mallopt(ArenaMaximum, 1);
        }
        catch (EntryPointNotFoundException)
        {
            // Another C library (musl), which has no arenas.
        }
        catch (DllNotFoundException)
        {
            // The same.
        }
    }

    [DllImport("libc", EntryPoint = "mallopt", SetLastError = false)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int mallopt(int parameter, int value);
}
