using System.Security.Cryptography;
using VirtBackup.Core;

namespace VirtBackup.Sealing;

/// <summary>
/// A VM's key of one epoch. It masks the chunk secrets in the VM's maps and seals manifest bodies; destroying all its
/// sealed copies makes that VM's points unreadable. Safe for concurrent use until disposed.
/// </summary>
public sealed class VmKey : IDisposable
{
    /// <summary>Bytes of the key.</summary>
    public const int Size = KeyDerivation.KeyBytes;

    private readonly SecretBytes _key;

    private VmKey(SecretBytes key)
    {
        _key = key;
        Span<byte> epoch = stackalloc byte[KeyDerivation.KeyBytes];
        KeyDerivation.Expand(key.Span, "epoch id"u8, epoch);
        EpochId = Id16.Read(epoch);
    }

    /// <summary>Names the key: the first 16 bytes of HKDF-Expand(VmKey, "epoch id").</summary>
    public Id16 EpochId { get; }

    public static VmKey Create(IEntropy entropy)
    {
        ArgumentNullException.ThrowIfNull(entropy);
        var key = new SecretBytes();
        entropy.Fill(key.Span);
        return new VmKey(key);
    }

    /// <summary>Takes a copy of <paramref name="key"/>, 32 bytes.</summary>
    public static VmKey FromBytes(ReadOnlySpan<byte> key)
    {
        Check.That(key.Length == Size);
        return new VmKey(SecretBytes.From(key));
    }

    /// <summary>Copies the key out, for sealing it; the caller wipes the copy.</summary>
    public void CopyTo(Span<byte> destination) => _key.Span.CopyTo(destination);

    /// <summary>What a map leaf carries for a chunk: t XOR HKDF-Expand(VmKey, "mask" ‖ id).</summary>
    public Id32 Mask(Id32 id, ChunkSecret secret) => secret.Mask(DeriveMask(id));

    /// <summary>
    /// Recovers a chunk's secret and proves that it belongs to <paramref name="id"/>, before anything is fetched: a wrong
    /// epoch, a swapped or flipped mask, or a forged leaf end here.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Corrupt"/>: the secret does not belong to the id.</exception>
    public ChunkSecret Unmask(Id32 id, Id32 maskedSecret) => TryUnmask(id, maskedSecret, out var secret)
        ? secret
        : throw FaultException.Corrupt($"The map entry of chunk {id} does not open with the VM key of epoch {EpochId}: the entry is damaged or names the wrong epoch.");

    /// <summary><see cref="Unmask"/> without the exception.</summary>
    public bool TryUnmask(Id32 id, Id32 maskedSecret, out ChunkSecret secret)
    {
        secret = ChunkSecret.Unmask(maskedSecret, DeriveMask(id));
        if (!id.IsZero && secret.DeriveId() == id)
        {
            return true;
        }
        secret = default;
        return false;
    }

    internal void DeriveManifestKey(Span<byte> destination) => KeyDerivation.Expand(_key.Span, "manifest body"u8, destination);

    private Id32 DeriveMask(Id32 id)
    {
        Span<byte> bytes = stackalloc byte[2 * Id32.Size];
        id.Write(bytes);
        KeyDerivation.Expand(_key.Span, "mask"u8, bytes[..Id32.Size], bytes[Id32.Size..]);
        var mask = Id32.Read(bytes[Id32.Size..]);
        CryptographicOperations.ZeroMemory(bytes);
        return mask;
    }

    public void Dispose() => _key.Dispose();

    public override string ToString() => $"VmKey of epoch {EpochId}";
}
