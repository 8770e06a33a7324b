using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Keys;
using VirtBackup.Format.Maps;
using VirtBackup.Repository.Verification;
using VirtBackup.Sealing;

namespace VirtBackup.Cli.Offline;

/// <summary>Opens chunks with the escrowed keys. Not safe for concurrent use; wipes what it opened.</summary>
internal sealed class EscrowOpener : IChunkOpener, IDisposable
{
    /// <summary>The generation of chunk-id keys that controllers use for their repository's own scope.</summary>
    private const ushort FirstGeneration = 1;

    private readonly IObjectStore _store;
    private readonly EscrowKeys _escrow;
    private readonly ChunkKeyRing _ring;
    private readonly ChunkOpener _opener;
    private readonly Dictionary<(Id16 Vm, Id16 Epoch), VmKey> _vmKeys = [];
    private readonly byte[] _plain = new byte[Limits.ChunkBytesMax];

    /// <param name="store">Where the sealed VM keys are.</param>
    /// <param name="head">Which scopes there are.</param>
    /// <param name="escrow">Stays the caller's.</param>
    public EscrowOpener(IObjectStore store, RepositoryHead head, EscrowKeys escrow)
    {
        (_store, _escrow) = (store, escrow);
        var scopes = head.Scopes.Select(static scope => (Id: Id16.Parse(scope.Id), scope.Generation)).Append((Id: head.Uuid, Generation: FirstGeneration)).Distinct();
        var idKeys = scopes.Select(scope => escrow.Root.DeriveIdKey(scope.Id, scope.Generation)).ToList();
        _ring = new ChunkKeyRing(idKeys);
        idKeys.ForEach(static key => key.Dispose());
        _opener = new ChunkOpener(_ring);
    }

    public async ValueTask OpenAsync(Id16 vm, MapEntry entry, ReadOnlyMemory<byte> record, CancellationToken cancellationToken)
    {
        if (!_vmKeys.TryGetValue((vm, entry.EpochId), out var key))
        {
            _vmKeys.Add((vm, entry.EpochId), key = await OpenKeyAsync(vm, entry.EpochId, cancellationToken));
        }
        _opener.Open(record.Span, entry.Id, key.Unmask(entry.Id, entry.MaskedSecret), _plain.AsSpan(0, entry.Length));
    }

    public void Dispose()
    {
        CryptographicOperations.ZeroMemory(_plain);
        _opener.Dispose();
        _ring.Dispose();
        foreach (var key in _vmKeys.Values)
        {
            key.Dispose();
        }
        _vmKeys.Clear();
    }

    private async ValueTask<VmKey> OpenKeyAsync(Id16 vm, Id16 epoch, CancellationToken cancellationToken)
    {
        var name = ObjectKeys.VmKey(vm, epoch, _escrow.RestoreKey.Public.Id);
        var sealedKey = KeyObject.Parse(await _store.ReadAllAsync(name, KeyObject.Size, cancellationToken));
        return sealedKey.Vm == vm && sealedKey.Epoch == epoch
            ? KeySealing.Open(sealedKey, _escrow.RestoreKey)
            : throw FaultException.Corrupt($"The key object {name} holds another key than its name says.");
    }
}
