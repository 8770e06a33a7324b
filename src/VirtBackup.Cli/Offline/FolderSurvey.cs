using VirtBackup.Cli.Views;
using VirtBackup.Format;
using VirtBackup.ObjectStores;
using VirtBackup.Repository;

namespace VirtBackup.Cli.Offline;

/// <summary>What a repository's folder says about itself, without index, keys or lock; a controller may use it meanwhile.</summary>
internal static class FolderSurvey
{
    public static async Task<RepositoryView> RunAsync(string folder, CancellationToken cancellationToken)
    {
        using var store = LocalFolderStore.Open(folder, new LocalFolderOptions { IsOwner = false });
        var head = await BackupRepository.ReadHeadAsync(store, cancellationToken);
        var points = await CountAsync(store, ObjectKeys.RecoveryPointsPrefix, cancellationToken);
        var forgotten = await CountAsync(store, ObjectKeys.TrashPrefix, cancellationToken);
        var packs = await CountAsync(store, ObjectKeys.PacksPrefix, cancellationToken);
        var generation = 0L;
        await foreach (var info in store.ListAsync(ObjectKeys.OwnerPrefix, cancellationToken))
        {
            generation = ObjectKeys.TryParseOwner(info.Key, out var found) ? Math.Max(generation, found) : generation;
        }
        var free = await store.GetFreeBytesAsync(cancellationToken);
        return new RepositoryView(
            head.Uuid.ToString(), Path.GetFullPath(folder), head.Created, head.Algorithms, points.Count, forgotten.Count, packs.Count, null, packs.Bytes,
            (ulong?)free, (ulong)generation);
    }

    private static async Task<(ulong Count, ulong Bytes)> CountAsync(LocalFolderStore store, string prefix, CancellationToken cancellationToken)
    {
        var (count, bytes) = (0UL, 0UL);
        await foreach (var info in store.ListAsync(prefix, cancellationToken))
        {
            count++;
            bytes += (ulong)info.Length;
        }
        return (count, bytes);
    }
}
