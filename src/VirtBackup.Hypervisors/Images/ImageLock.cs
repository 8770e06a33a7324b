using VirtBackup.Core;
using VirtBackup.Nbd;

namespace VirtBackup.Hypervisors.Images;

/// <summary>Asks for QEMU's lock on an image, as a machine that wants to read it alone would.</summary>
internal static class ImageLock
{
    /// <summary>Whether a machine, or another program of QEMU, has the image open for writing. False for a file that does not exist.</summary>
    public static async Task<bool> IsHeldAsync(string path, ImageTools tools, CancellationToken cancellationToken)
    {
        if (!File.Exists(path))
        {
            return false;
        }
        var folder = Directory.CreateTempSubdirectory("virtbackup-lock-").FullName;
        try
        {
            // As raw: only the lock matters, whatever the file holds.
            await using var server = await ImageServer.StartAsync(
                tools.QemuNbd, path, "raw", Path.Combine(folder, "0.sock"), writable: false, new NbdClientOptions { TimeProvider = tools.Time }, tools.Time, cancellationToken);
            return false;
        }
        catch (FaultException fault) when (fault.Message.Contains("lock", StringComparison.Ordinal))
        {
            return true;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>Whether somebody uses one of the images.</summary>
    public static async Task<bool> IsAnyHeldAsync(IEnumerable<string> paths, ImageTools tools, CancellationToken cancellationToken)
    {
        foreach (var path in paths)
        {
            if (await IsHeldAsync(path, tools, cancellationToken))
            {
                return true;
            }
        }
        return false;
    }
}
