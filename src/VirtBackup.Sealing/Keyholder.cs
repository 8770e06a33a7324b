using System.Collections.Concurrent;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Keys;

namespace VirtBackup.Sealing;

/// <summary>
/// Opens the VM keys that a repository keeps with the escrowed restore key: its own, and those of other repositories whose
/// points it holds and whose keys were given to it. Safe for concurrent use.
/// </summary>
/// <param name="store">Where the key objects are.</param>
/// <param name="escrow">The repository's own; stays the caller's.</param>
/// <param name="repository">The repository.</param>
public sealed class Keyholder(IObjectStore store, EscrowKeys escrow, Id16 repository) : IDisposable
{
    // Some runs' worth: whoever has just stored a key opens it soon, more than once, and it need not be asked for.
    private const int StoredMax = 256;

    private readonly ConcurrentDictionary<(Id16 Vm, Id16 Epoch, Id16 Recipient), byte[]> _stored = new();

    private readonly ConcurrentDictionary<Id16, EscrowKeys> _origins = new();

    // The private keys must not be used concurrently.
    private readonly SemaphoreSlim _opening = new(1, 1);

    /// <summary>Agents seal VM keys to it.</summary>
    public ReadOnlyMemory<byte> RestorePublicKey => escrow.RestoreKey.Public.SubjectPublicKeyInfo;

    /// <summary>The other repositories whose points can be opened.</summary>
    public IReadOnlyCollection<Id16> Origins => [.. _origins.Keys];

    /// <summary>Takes the keys of another repository, which are this object's from then on; nothing changes when it has them.</summary>
    public void Add(Id16 origin, EscrowKeys keys)
    {
        ArgumentNullException.ThrowIfNull(keys);
        if (origin == repository || !_origins.TryAdd(origin, keys))
        {
            keys.Dispose();
        }
    }

    /// <summary>Whether points that were made in this repository can be opened.</summary>
    public bool Has(Id16 origin) => origin == repository || _origins.ContainsKey(origin);

    /// <summary>Agents seal to it the VM keys of machines that continue in the name of this repository.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: its keys are not here.</exception>
    public ReadOnlyMemory<byte> FindRestorePublicKey(Id16 origin) => Require(origin).RestoreKey.Public.SubjectPublicKeyInfo;

    /// <summary>The chunk-id key of a scope of the repository; the caller disposes it.</summary>
    public IdKey DeriveIdKey(Id16 scope, ushort generation) => escrow.Root.DeriveIdKey(scope, generation);

    /// <summary>This key object, sealed to a restore key of these, was stored just now.</summary>
    public void NoteStored(KeyObject keyObject, ReadOnlySpan<byte> bytes)
    {
        ArgumentNullException.ThrowIfNull(keyObject);
        if (_stored.Count >= StoredMax)
        {
            _stored.Clear();
        }
        _stored[(keyObject.Vm, keyObject.Epoch, keyObject.Recipient)] = bytes.ToArray();
    }

    /// <summary>The chunk-id key of a scope of the repository in which a point was made; the caller disposes it.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: its keys are not here.</exception>
    public IdKey DeriveIdKey(Id16 origin, Id16 scope, ushort generation) => Require(origin).Root.DeriveIdKey(scope, generation);

    /// <summary>The VM's key of an epoch; the caller disposes it.</summary>
    /// <exception cref="FaultException">The key object is missing, damaged, or sealed to another key.</exception>
    public async ValueTask<VmKey> OpenAsync(Id16 vm, Id16 epoch, CancellationToken cancellationToken)
    {
        try
        {
            return await OpenAsync(vm, epoch, escrow, cancellationToken);
        }
        catch (FaultException missing) when (missing.Reason == FaultReason.NotFound)
        {
            foreach (var keys in _origins.Values)
            {
                if (_stored.ContainsKey((vm, epoch, keys.RestoreKey.Public.Id))
                    || await store.FindAsync(ObjectKeys.VmKey(vm, epoch, keys.RestoreKey.Public.Id), cancellationToken) is not null)
                {
                    return await OpenAsync(vm, epoch, keys, cancellationToken);
                }
            }
            throw;
        }
    }

    public void Dispose()
    {
        foreach (var keys in _origins.Values)
        {
            keys.Dispose();
        }
        _opening.Dispose();
    }

    private async ValueTask<VmKey> OpenAsync(Id16 vm, Id16 epoch, EscrowKeys keys, CancellationToken cancellationToken)
    {
        var bytes = _stored.TryGetValue((vm, epoch, keys.RestoreKey.Public.Id), out var known) ? known : await store.ReadAllAsync(ObjectKeys.VmKey(vm, epoch, keys.RestoreKey.Public.Id), KeyObject.Size, cancellationToken);
        var sealedKey = KeyObject.Parse(bytes);
        if (sealedKey.Vm != vm || sealedKey.Epoch != epoch)
        {
            throw FaultException.Corrupt($"The key object of VM {vm}, epoch {epoch}, holds another key than its name says.");
        }
        await _opening.WaitAsync(cancellationToken);
        try
        {
            return KeySealing.Open(sealedKey, keys.RestoreKey);
        }
        finally
        {
            _opening.Release();
        }
    }

    private EscrowKeys Require(Id16 origin) =>
        origin == repository ? escrow
        : _origins.TryGetValue(origin, out var keys) ? keys
        : throw new FaultException(
            FaultReason.FailedPrecondition, $"The keys of repository {origin} are not here: unlock with that site's recovery kit (virtbackup peer unlock).");
}
