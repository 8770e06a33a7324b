using System.Collections.Concurrent;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Keys;
using VirtBackup.Sealing;

namespace VirtBackup.Controller.Store;

/// <summary>
/// Opens VM keys with the escrowed restore key. The only place in the controller that touches keys of data. Safe for
/// concurrent use.
/// </summary>
public sealed class Keyholder(IObjectStore store, EscrowKeys escrow) : IDisposable
{
    // The private key must not be used concurrently.
    private readonly SemaphoreSlim _opening = new(1, 1);

    /// <summary>Agents seal VM keys to it.</summary>
    public ReadOnlyMemory<byte> RestorePublicKey => escrow.RestoreKey.Public.SubjectPublicKeyInfo;

    /// <summary>The chunk-id key of a scope; the caller disposes it.</summary>
    public IdKey DeriveIdKey(Id16 scope, ushort generation) => escrow.Root.DeriveIdKey(scope, generation);

    /// <summary>The VM's key of an epoch; the caller disposes it.</summary>
    /// <exception cref="FaultException">The key object is missing, damaged, or sealed to another key.</exception>
    public async ValueTask<VmKey> OpenAsync(Id16 vm, Id16 epoch, CancellationToken cancellationToken)
    {
        var bytes = await store.ReadAllAsync(ObjectKeys.VmKey(vm, epoch, escrow.RestoreKey.Public.Id), KeyObject.Size, cancellationToken);
        var sealedKey = KeyObject.Parse(bytes);
        if (sealedKey.Vm != vm || sealedKey.Epoch != epoch)
        {
            throw FaultException.Corrupt($"The key object of VM {vm}, epoch {epoch}, holds another key than its name says.");
        }
        await _opening.WaitAsync(cancellationToken);
        try
        {
            return KeySealing.Open(sealedKey, escrow.RestoreKey);
        }
        finally
        {
            _opening.Release();
        }
    }

    public void Dispose() => _opening.Dispose();
}

/// <summary>VM keys that were opened for one operation; wiped when it is over. Safe for concurrent use.</summary>
internal sealed class OpenedKeys(Keyholder keyholder) : IDisposable
{
    private readonly ConcurrentDictionary<(Id16 Vm, Id16 Epoch), VmKey> _keys = new();

    public async ValueTask<VmKey> GetAsync(Id16 vm, Id16 epoch, CancellationToken cancellationToken)
    {
        if (_keys.TryGetValue((vm, epoch), out var known))
        {
            return known;
        }
        var opened = await keyholder.OpenAsync(vm, epoch, cancellationToken);
        var kept = _keys.GetOrAdd((vm, epoch), opened);
        if (!ReferenceEquals(kept, opened))
        {
            opened.Dispose();
        }
        return kept;
    }

    public void Dispose()
    {
        foreach (var key in _keys.Values)
        {
            key.Dispose();
        }
        _keys.Clear();
    }
}
