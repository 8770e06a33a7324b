using VirtBackup.Hypervisors.Libvirt.Native;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>A storage pool of libvirt.</summary>
/// <param name="Kind"><c>dir</c>, <c>netfs</c>, <c>logical</c>, …</param>
/// <param name="Path">Where its volumes are found.</param>
internal sealed record StoragePool(string Name, string Kind, string Path, bool Active);

/// <summary>What libvirt's storage pools mean for images in folders. <see cref="List"/> and <see cref="Refresh"/> are for the thread of a call.</summary>
internal static class StoragePools
{
    private static readonly HashSet<string> OfFiles = ["dir", "fs", "netfs"];

    /// <summary>All pools that have a path; none where the daemon does not serve pools.</summary>
    public static List<StoragePool> List(ConnectionHandle connection)
    {
        var pools = new List<StoragePool>();
        var count = LibvirtCalls.ListPools(connection, out var array, 0);
        if (count < 0)
        {
            return LibvirtFailure.Last() is { Code: LibvirtFailure.NoSupport } ? pools : throw LibvirtFailure.Last();
        }
        foreach (var pool in LibvirtValues.TakeAll<PoolHandle>(count, array))
        {
            using (pool)
            {
                // A pool that was undefined since is none.
                if (LibvirtCalls.GetXml(pool, 0) is var text && text != 0
                    && BoundedXml.Parse(LibvirtValues.TakeText(text), "pool") is var xml && xml.Element("target")?.Element("path")?.Value is { Length: > 1 } path)
                {
                    pools.Add(new StoragePool(xml.Element("name")?.Value ?? "", xml.Text("type") ?? "", path.TrimEnd('/'), LibvirtCalls.IsActive(pool) == 1));
                }
            }
        }
        return pools;
    }

    /// <summary>The pools that these folders belong to list the images in them; that one cannot is of no consequence.</summary>
    public static void Refresh(ConnectionHandle connection, IEnumerable<string> folders)
    {
        foreach (var folder in folders.Select(folder => folder.TrimEnd('/')).Distinct(StringComparer.Ordinal))
        {
            using var pool = LibvirtCalls.FindPool(connection, folder);
            if (!pool.IsInvalid)
            {
                _ = LibvirtCalls.Refresh(pool, 0);
            }
        }
    }

    /// <summary>Whether new images can be made in a folder, as far as pools have a say. Null: it belongs to none.</summary>
    public static RestoreFinding? Judge(string folder, IEnumerable<StoragePool> pools)
    {
        const string item = "storage pool";
        folder = folder.TrimEnd('/');
        var pool = pools.Where(pool => folder == pool.Path || folder.StartsWith(pool.Path + "/", StringComparison.Ordinal)).MaxBy(pool => pool.Path.Length);
        return pool switch
        {
            null => null,
            _ when !OfFiles.Contains(pool.Kind) => new RestoreFinding(item, FindingSeverity.Blocks,
                $"{folder} belongs to the pool '{pool.Name}', whose kind ({pool.Kind}) has no image files. Choose a folder, or one of a pool of files (dir, fs, netfs)."),
            { Active: false, Kind: not "dir" } => new RestoreFinding(item, FindingSeverity.Blocks,
                $"{folder} belongs to the pool '{pool.Name}', which is not active: its file system is not mounted there. Start it first (virsh pool-start {pool.Name})."),
            { Active: false } => new RestoreFinding(item, FindingSeverity.Adapts, $"{folder} belongs to the pool '{pool.Name}', which is not active; it lists the images when it is started."),
            _ when folder == pool.Path => new RestoreFinding(item, FindingSeverity.Fits, $"The pool '{pool.Name}' lists the images."),
            _ => new RestoreFinding(item, FindingSeverity.Fits, $"{folder} lies in the pool '{pool.Name}', which lists images in its own folder only: these are not among its volumes."),
        };
    }
}
