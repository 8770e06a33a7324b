using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Keys;

namespace VirtBackup.Repository;

/// <summary>Makes a new repository in an empty place.</summary>
public static class RepositoryInitializer
{
    /// <summary>
    /// Writes the wrapped restore key, then the object FORMAT, which makes the place a repository. When it was interrupted,
    /// running it again with the same values finishes it.
    /// </summary>
    /// <param name="store">An empty place.</param>
    /// <param name="head">What the repository is.</param>
    /// <param name="wrappedRestoreKey">Bytes of the keyring object for the private half of the head's restore key.</param>
    /// <param name="cancellationToken">Stops before the next object.</param>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.AlreadyExists"/>: the place is not empty; <see cref="FaultReason.InvalidArgument"/>: the wrapped
    /// key is not that of the head's restore key.
    /// </exception>
    public static async ValueTask InitializeAsync(
        IObjectStore store, RepositoryHead head, ReadOnlyMemory<byte> wrappedRestoreKey, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(store);
        ArgumentNullException.ThrowIfNull(head);
        var keyId = WrappedKey.Parse(wrappedRestoreKey.Span).Id;
        if (keyId != KeyId.Compute(head.RestoreKey))
        {
            throw new FaultException(FaultReason.InvalidArgument, "The wrapped restore key does not belong to the repository's public restore key.");
        }
        var keyName = ObjectKeys.RestoreKey(keyId);
        await foreach (var info in store.ListAsync("", cancellationToken))
        {
            if (info.Key != keyName)
            {
                throw new FaultException(
                    FaultReason.AlreadyExists, $"The place for the repository is not empty: it holds {info.Key}. Choose an empty place.");
            }
        }
        if (!await store.PutSameAsync(keyName, wrappedRestoreKey, cancellationToken))
        {
            throw new FaultException(
                FaultReason.AlreadyExists, $"The place for the repository is not empty: it holds another {keyName}. Choose an empty place.");
        }
        if (!await store.PutAsync(ObjectKeys.Format, head.ToBytes(), cancellationToken))
        {
            throw new FaultException(FaultReason.AlreadyExists, "Another process has just made a repository in this place.");
        }
    }

    /// <summary>Takes back what <see cref="InitializeAsync"/> put, if no other repository was made there: that one's objects stay, whatever they are.</summary>
    /// <param name="store">The place.</param>
    /// <param name="head">Of the repository that is taken back.</param>
    /// <param name="cancellationToken">Stops before the next object.</param>
    public static async ValueTask RemoveAsync(IObjectStore store, RepositoryHead head, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(store);
        ArgumentNullException.ThrowIfNull(head);
        if (await store.FindAsync(ObjectKeys.Format, cancellationToken) is not null)
        {
            if (RepositoryHead.Parse(await store.ReadAllAsync(ObjectKeys.Format, RepositoryHead.BytesMax, cancellationToken)).Uuid != head.Uuid)
            {
                return;
            }
            await store.DeleteAsync(ObjectKeys.Format, cancellationToken);
        }
        await store.DeleteAsync(ObjectKeys.RestoreKey(KeyId.Compute(head.RestoreKey)), cancellationToken);
    }
}
