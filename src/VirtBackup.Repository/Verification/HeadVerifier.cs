using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Keys;

namespace VirtBackup.Repository.Verification;

/// <summary>Checks the repository's head and its wrapped keys.</summary>
internal sealed class HeadVerifier(IObjectStore store, RepositoryHead head, DamageLog log)
{
    public async ValueTask VerifyAsync(CancellationToken cancellationToken)
    {
        try
        {
            var stored = await BackupRepository.ReadHeadAsync(store, cancellationToken);
            if (!stored.ToBytes().AsSpan().SequenceEqual(head.ToBytes()))
            {
                // It has no hash of its own, but it never changes.
                log.Add(ObjectKeys.Format, "The object FORMAT is not the one with which the repository was opened: it was damaged or replaced.");
            }
            var restoreKey = ObjectKeys.RestoreKey(KeyId.Compute(head.RestoreKey));
            if (await store.FindAsync(restoreKey, cancellationToken) is null)
            {
                log.Add(restoreKey, "The wrapped restore key is missing: without its copy elsewhere nothing can be restored with the root secret alone.");
            }
        }
        catch (FaultException fault)
        {
            log.Add(ObjectKeys.Format, fault.Message);
        }
        await foreach (var info in store.ListAsync(ObjectKeys.KeyringPrefix, cancellationToken))
        {
            try
            {
                var key = WrappedKey.Parse(await store.ReadAllAsync(info.Key, WrappedKey.BytesMax, cancellationToken));
                if (ObjectKeys.RestoreKey(key.Id) != info.Key)
                {
                    log.Add(info.Key, "It is another wrapped key than its name says.");
                }
            }
            catch (FaultException fault) when (fault.Reason is FaultReason.Malformed or FaultReason.Corrupt or FaultReason.Unsupported)
            {
                log.Add(info.Key, fault.Message);
            }
        }
    }
}
