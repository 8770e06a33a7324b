using VirtBackup.Controller.Store;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Repository.Verification;
using VirtBackup.Sealing;

namespace VirtBackup.Proofs.FlipBytes;

/// <summary>Checks signatures with the public keys that the repository keeps.</summary>
internal sealed class SignatureCheck(IObjectStore store) : IManifestSignatureVerifier
{
    public async ValueTask VerifyAsync(Manifest manifest, CancellationToken cancellationToken) =>
        ManifestSealing.VerifySignature(manifest, await store.ReadAllAsync(ObjectKeys.Agent(manifest.Head.AgentKeyId), 1 << 10, cancellationToken));
}

/// <summary>Planted defect: any signature is right.</summary>
internal sealed class NoSignatureCheck : IManifestSignatureVerifier
{
    public ValueTask VerifyAsync(Manifest manifest, CancellationToken cancellationToken) => ValueTask.CompletedTask;
}

/// <summary>Opens chunks with the escrowed keys.</summary>
internal sealed class ChunkCheck : IChunkOpener, IDisposable
{
    private readonly Keyholder _keyholder;
    private readonly ChunkKeyRing _ring;
    private readonly ChunkOpener _opener;
    private readonly Dictionary<Id16, VmKey> _keys = [];
    private readonly byte[] _plain = new byte[Limits.ChunkBytesMax];

    public ChunkCheck(IObjectStore store, EscrowKeys escrow, Id16 repository)
    {
        _keyholder = new Keyholder(store, escrow);
        using var idKey = _keyholder.DeriveIdKey(repository, 1);
        _ring = new ChunkKeyRing([idKey]);
        _opener = new ChunkOpener(_ring);
    }

    public async ValueTask OpenAsync(Id16 vm, MapEntry entry, ReadOnlyMemory<byte> record, CancellationToken cancellationToken)
    {
        if (!_keys.TryGetValue(entry.EpochId, out var key))
        {
            _keys.Add(entry.EpochId, key = await _keyholder.OpenAsync(vm, entry.EpochId, cancellationToken));
        }
        _opener.Open(record.Span, entry.Id, key.Unmask(entry.Id, entry.MaskedSecret), _plain.AsSpan(0, entry.Length));
    }

    public void Dispose()
    {
        foreach (var key in _keys.Values)
        {
            key.Dispose();
        }
        _opener.Dispose();
        _ring.Dispose();
        _keyholder.Dispose();
    }
}

/// <summary>Planted defect: any record holds the chunk.</summary>
internal sealed class NoChunkCheck : IChunkOpener
{
    public ValueTask OpenAsync(Id16 vm, MapEntry entry, ReadOnlyMemory<byte> record, CancellationToken cancellationToken) => ValueTask.CompletedTask;
}
