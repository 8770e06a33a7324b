using VirtBackup.Core;

namespace VirtBackup.Hypervisors;

/// <summary>How much room there is.</summary>
internal static class FreeSpace
{
    /// <summary>Bytes free where a folder is, or will be.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: it cannot be told.</exception>
    public static long Of(string folder)
    {
        while (!Directory.Exists(folder) && Path.GetDirectoryName(folder) is { } parent)
        {
            folder = parent;
        }
        try
        {
            return new DriveInfo(folder).AvailableFreeSpace;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The folder {folder} cannot be used: {failure.Message}", failure);
        }
    }
}
