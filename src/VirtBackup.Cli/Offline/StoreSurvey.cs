using VirtBackup.Cli.Views;
using VirtBackup.CloudStores;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Repository;

namespace VirtBackup.Cli.Offline;

/// <summary>What a repository's objects say about it, without index, keys or lock; a controller may use it meanwhile.</summary>
internal static class StoreSurvey
{
    public static async Task<RepositoryView> RunAsync(StoreLocation location, CancellationToken cancellationToken)
    {
        await using var opened = StoreOpener.OpenForReading(location);
        var store = opened.Store;
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
            head.Uuid.ToString(), location.Text, head.Created, head.Algorithms, points.Count, forgotten.Count, packs.Count, null, packs.Bytes,
            (ulong?)free, (ulong)generation, Traffic: StoreTrafficView.Of(store.Traffic));
    }

    private static async Task<(ulong Count, ulong Bytes)> CountAsync(IObjectStore store, string prefix, CancellationToken cancellationToken)
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
