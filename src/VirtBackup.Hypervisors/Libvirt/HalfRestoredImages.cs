using VirtBackup.Hypervisors.Images;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>Keeps images that a restore in place left half written out of backups.</summary>
internal static class HalfRestoredImages
{
    /// <exception cref="Core.FaultException"><see cref="Core.FaultReason.FailedPrecondition"/>: a disk that would be captured is marked.</exception>
    public static async Task RequireNoneAsync(LibvirtConnection connection, CaptureRequest request, CancellationToken cancellationToken)
    {
        var document = (await connection.QueryAsync(libvirt => Domains.Read(libvirt, request.Machine), cancellationToken)).Document;
        foreach (var path in document.Disks.Where(disk => disk.SkipReason is null && !request.ExcludedDisks.Contains(disk.Target)).SelectMany(disk => disk.Layers))
        {
            InPlaceMark.RequireNone(path);
        }
    }
}
