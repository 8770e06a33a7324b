using VirtBackup.Core;
using VirtBackup.Format;

namespace VirtBackup.Repository;

/// <summary>Tells one bad place of a device from a store that is gone.</summary>
internal static class StoreHealth
{
    /// <summary>Whether the fault may concern one object alone: it cannot be read now, and nothing is said about its bytes.</summary>
    public static bool IsUnreadable(FaultException fault) => fault.Reason is FaultReason.Unavailable or FaultReason.Denied;

    /// <summary>Reads the repository's head anew.</summary>
    /// <exception cref="FaultException">The store as a whole cannot be read.</exception>
    public static async ValueTask RequireReadableAsync(this IObjectStore store, CancellationToken cancellationToken)
    {
        if (await store.FindAsync(ObjectKeys.Format, cancellationToken) is null)
        {
            throw new FaultException(FaultReason.Unavailable, "The repository's object FORMAT is not there any more. Check that its device is still mounted.");
        }
        _ = await store.ReadAllAsync(ObjectKeys.Format, RepositoryHead.BytesMax, cancellationToken);
    }
}
