using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Keys;

namespace VirtBackup.Repository.Verification;

/// <summary>Checks the key objects of epochs, each epoch once. Use an instance for one pass.</summary>
internal sealed class KeyObjectVerifier(IObjectStore store, DamageLog log)
{
    private readonly Dictionary<(Id16 Repository, Id16 Vm, Id16 Epoch), DamageLog.Entry?> _epochs = [];

    /// <summary>Null when the epoch has at least one key object and all of them are whole.</summary>
    public async ValueTask<DamageLog.Entry?> FindDamageAsync(Id16 repository, Id16 vm, Id16 epoch, CancellationToken cancellationToken)
    {
        if (!_epochs.TryGetValue((repository, vm, epoch), out var found))
        {
            _epochs.Add((repository, vm, epoch), found = await CheckAsync(repository, vm, epoch, cancellationToken));
        }
        return found;
    }

    private async ValueTask<DamageLog.Entry?> CheckAsync(Id16 repository, Id16 vm, Id16 epoch, CancellationToken cancellationToken)
    {
        DamageLog.Entry? found = null;
        var count = 0;
        await foreach (var info in store.ListAsync(ObjectKeys.VmKeysOf(vm, epoch), cancellationToken))
        {
            count++;
            try
            {
                var key = KeyObject.Parse(await store.ReadAllAsync(info.Key, KeyObject.Size, cancellationToken));
                if (key.Repository != repository || ObjectKeys.VmKey(key.Vm, key.Epoch, key.Recipient) != info.Key)
                {
                    found = log.Add(info.Key, "It is another key object than its name says.");
                }
            }
            catch (FaultException fault) when (fault.Reason is FaultReason.Malformed or FaultReason.Corrupt or FaultReason.Unsupported)
            {
                found = log.Add(info.Key, fault.Message);
            }
        }
        return count > 0 ? found : log.Add(ObjectKeys.VmKeysOf(vm, epoch), "The key objects of this epoch are missing.");
    }
}
