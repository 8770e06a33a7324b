using VirtBackup.Hypervisors;

namespace VirtBackup.Agent.Restore;

/// <summary>
/// Names the way that restored bytes take on this host. Restores with the same name are judged by each other: what makes one
/// slower than the other by its kind is in the name.
/// </summary>
internal static class RestorePath
{
    private const int CharsMax = 512;

    public static string NameOf(IRestoreTarget? target, RestoreRequest request)
    {
        var formats = string.Join('+', request.Disks.Select(static disk => disk.Format).Distinct().Order(StringComparer.Ordinal));
        var name = $"{target?.Name ?? "storage that cannot be named"}, {request.HypervisorKind}, {formats}{(request.Preallocation == DiskPreallocation.Full ? ", reserved in full" : "")}{(request.Start ? ", started" : "")}";
        return name.Length <= CharsMax ? name : name[..CharsMax];
    }
}
