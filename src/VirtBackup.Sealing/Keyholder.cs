using System.Collections.Concurrent;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Keys;

namespace VirtBackup.Sealing;

/// <summary>
/// Opens the VM keys that a repository keeps with the escrowed restore key. Safe for concurrent use.
/// </summary>
/// <param name="store">Where the key objects are.</param>
/// <param name="escrow">Stays the caller's.</param>
public sealed class Keyholder(IObjectStore store, EscrowKeys escrow) : IDisposable
{
    // Some runs' worth: whoever has just stored a key opens it soon, more than once, and it need not be asked for.
    private const int StoredMax = 256;

    private readonly ConcurrentDictionary<(Id16 Vm, Id16 Epoch), byte[]> _stored = new();

    // The private key must not be used concurrently.
    private readonly SemaphoreSlim _opening = new(1, 1);

    /// <summary>Agents seal VM keys to it.</summary>
    public ReadOnlyMemory<byte> RestorePublicKey => escrow.RestoreKey.Public.SubjectPublicKeyInfo;

    /// <summary>The chunk-id key of a scope; the caller disposes it.</summary>
    public IdKey DeriveIdKey(Id16 scope, ushort generation) => escrow.Root.DeriveIdKey(scope, generation);

    /// <summary>This key object, sealed to <see cref="RestorePublicKey"/>, was stored just now.</summary>
    public void NoteStored(KeyObject keyObject, ReadOnlySpan<byte> bytes)
    {
        ArgumentNullException.ThrowIfNull(keyObject);
        if (_stored.Count >= StoredMax)
        {
            _stored.Clear();
        }
        _stored[(keyObject.Vm, keyObject.Epoch)] = bytes.ToArray();
    }

    /// <summary>The VM's key of an epoch; the caller disposes it.</summary>
    /// <exception cref="FaultException">The key object is missing, damaged, or sealed to another key.</exception>
    public async ValueTask<VmKey> OpenAsync(Id16 vm, Id16 epoch, CancellationToken cancellationToken)
    {
        var bytes = _stored.TryGetValue((vm, epoch), out var known) ? known : await store.ReadAllAsync(ObjectKeys.VmKey(vm, epoch, escrow.RestoreKey.Public.Id), KeyObject.Size, cancellationToken);
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
