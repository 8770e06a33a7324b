using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format.Keys;

namespace VirtBackup.Sealing;

/// <summary>Wraps private keys under the root secret (FORMAT.md, "Keyring object").</summary>
public static class Keyring
{
    public static WrappedKey Wrap(AgreementKey key, RootSecret root, IEntropy entropy)
    {
        ArgumentNullException.ThrowIfNull(key);
        ArgumentNullException.ThrowIfNull(root);
        using var wrapping = new SecretBytes();
        root.DeriveKeyringKey(wrapping.Span);
        var plain = key.ExportPkcs8();
        var wrapped = new byte[plain.Length + Gcm.SealingBytes];
        Gcm.Seal(wrapping.Span, plain, WrappedKey.HeadOf(key.Public.Id, wrapped.Length), wrapped, entropy);
        CryptographicOperations.ZeroMemory(plain);
        return new WrappedKey(key.Public.Id, wrapped);
    }

    /// <exception cref="FaultException"><see cref="FaultReason.Denied"/>: the root secret is not the repository's, or the object was changed.</exception>
    public static AgreementKey Unwrap(WrappedKey source, RootSecret root)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(root);
        using var wrapping = new SecretBytes();
        root.DeriveKeyringKey(wrapping.Span);
        var plain = new byte[source.Sealed.Length - Gcm.SealingBytes];
        try
        {
            if (!Gcm.TryOpen(wrapping.Span, source.Sealed.Span, WrappedKey.HeadOf(source.Id, source.Sealed.Length), plain))
            {
                throw new FaultException(FaultReason.Denied, $"The restore key {source.Id} does not open with this root secret. Check that the secret belongs to this repository.");
            }
            var key = AgreementKey.FromPkcs8(plain);
            if (key.Public.Id == source.Id)
            {
                return key;
            }
            key.Dispose();
            throw FaultException.Corrupt($"The keyring object {source.Id} holds another key.");
        }
        finally
        {
            CryptographicOperations.ZeroMemory(plain);
        }
    }
}
