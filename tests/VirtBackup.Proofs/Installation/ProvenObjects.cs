using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format.Keys;
using VirtBackup.Format.Manifests;
using VirtBackup.Sealing;

namespace VirtBackup.Proofs.Installation;

/// <summary>What follows from bytes alone and need not be computed again when the same bytes are met in a later census.</summary>
internal sealed class ProvenObjects : IDisposable
{
    private readonly HashSet<(Id32 Manifest, Id32 Signer)> _signatures = [];
    private readonly Dictionary<Id32, VmKey> _keys = [];

    public void RequireSignature(Manifest manifest, byte[] signer)
    {
        var proven = (HashOf(manifest.Bytes.Span), HashOf(signer));
        if (!_signatures.Contains(proven))
        {
            ManifestSealing.VerifySignature(manifest, signer);
            _signatures.Add(proven);
        }
    }

    /// <summary>The VM key in a key object; owned by this object.</summary>
    public VmKey Open(byte[] keyObject, AgreementKey recipient)
    {
        var hash = HashOf(keyObject);
        if (!_keys.TryGetValue(hash, out var key))
        {
            _keys.Add(hash, key = KeySealing.Open(KeyObject.Parse(keyObject), recipient));
        }
        return key;
    }

    public void Dispose()
    {
        foreach (var key in _keys.Values)
        {
            key.Dispose();
        }
    }

    private static Id32 HashOf(ReadOnlySpan<byte> bytes) => Id32.Read(SHA256.HashData(bytes));
}
