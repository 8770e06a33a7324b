using System.Runtime.InteropServices;
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
    private readonly Dictionary<Id32, IReadOnlyDictionary<Id16, byte[]>> _disks = [];

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

    /// <summary>Whether the point's chunks, read from just these places, were found to be those disks before. A pack's name is its content.</summary>
    public bool AreDisks(Manifest manifest, IEnumerable<StoredRecord> chunks, IReadOnlyDictionary<Id16, byte[]> disks) =>
        _disks.TryGetValue(HashOf(manifest, chunks), out var proven) && ReferenceEquals(proven, disks);

    public void NoteDisks(Manifest manifest, IEnumerable<StoredRecord> chunks, IReadOnlyDictionary<Id16, byte[]> disks) =>
        _disks[HashOf(manifest, chunks)] = disks;

    public void Dispose()
    {
        foreach (var key in _keys.Values)
        {
            key.Dispose();
        }
    }

    private static Id32 HashOf(Manifest manifest, IEnumerable<StoredRecord> chunks)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(manifest.Bytes.Span);
        foreach (var chunk in chunks)
        {
            hash.AppendData(MemoryMarshal.AsBytes(chunk.PackKey.AsSpan()));
            hash.AppendData(BitConverter.GetBytes(chunk.Entry.Offset));
        }
        return Id32.Read(hash.GetHashAndReset());
    }

    private static Id32 HashOf(ReadOnlySpan<byte> bytes) => Id32.Read(SHA256.HashData(bytes));
}
