using VirtBackup.Core;
using VirtBackup.Format;

namespace VirtBackup.Repository;

/// <summary>Tells damage, one bad place of a device, and a store that is gone from each other.</summary>
internal static class StoreHealth
{
    /// <summary>Whether the fault may concern one object alone: it cannot be read now, and nothing is said about its bytes.</summary>
    public static bool IsUnreadable(FaultException fault) => fault.Reason is FaultReason.Unavailable or FaultReason.Denied;

    /// <summary>Whether the fault says that an object is missing, or that its bytes are not what they should be.</summary>
    public static bool IsDamage(FaultException fault) =>
        fault.Reason is FaultReason.NotFound or FaultReason.Corrupt or FaultReason.Malformed or FaultReason.Unsupported;

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
