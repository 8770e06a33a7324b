using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Keys;
using VirtBackup.Repository;

namespace VirtBackup.Controller.Copies;

/// <summary>Makes an empty place a copy of the repository, under the same id and with the same wrapped keys; takes one that is a copy already.</summary>
internal static class CopyPlaceSetup
{
    /// <summary>Whether two locations are the same, or one lies within the other, as far as their spelling tells: the lock or lease of a place finds the rest.</summary>
    public static bool Overlap(string location, string other)
    {
        var (one, two) = (StoreLocation.Parse(location), StoreLocation.Parse(other));
        return one.Kind == two.Kind && one.Account == two.Account && one.Bucket == two.Bucket
            && one.Settings.GetValueOrDefault("endpoint") == two.Settings.GetValueOrDefault("endpoint") && (IsWithin(PathOf(one), PathOf(two)) || IsWithin(PathOf(two), PathOf(one)));
    }

    private static string PathOf(StoreLocation location) => location.IsFolder ? Path.TrimEndingDirectorySeparator(location.Text) : location.Prefix;

    private static bool IsWithin(string inner, string outer) => outer.Length == 0 || inner == outer || inner.StartsWith(outer.EndsWith('/') ? outer : outer + '/', StringComparison.Ordinal);

    /// <exception cref="FaultException">
    /// <see cref="FaultReason.FailedPrecondition"/>: the place holds another repository; <see cref="FaultReason.AlreadyExists"/>: it holds other things.
    /// </exception>
    public static async ValueTask PrepareAsync(CopyParts parts, IObjectStore store, CancellationToken cancellationToken)
    {
        var head = parts.Repository.Head;
        if (await store.FindAsync(ObjectKeys.Format, cancellationToken) is not null)
        {
            var found = await BackupRepository.ReadHeadAsync(store, cancellationToken);
            if (found.Uuid != head.Uuid || !found.RestoreKey.AsSpan().SequenceEqual(head.RestoreKey))
            {
                throw new FaultException(FaultReason.FailedPrecondition, $"The place holds repository {found.Uuid}, which is another one than this controller's: choose an empty place.");
            }
            return;
        }
        var wrapped = await parts.Store.ReadAllAsync(ObjectKeys.RestoreKey(KeyId.Compute(head.RestoreKey)), WrappedKey.BytesMax, cancellationToken);
        await RepositoryInitializer.InitializeAsync(store, head, wrapped, cancellationToken);
    }
}
