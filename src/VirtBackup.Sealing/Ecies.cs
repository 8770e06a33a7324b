using System.Security.Cryptography;
using VirtBackup.Core;

namespace VirtBackup.Sealing;

/// <summary>
/// Seals bytes to a P-256 public key: one-time ECDH, HKDF-SHA-256 (salt = ephemeral ‖ recipient points), AES-256-GCM.
/// Sealed = nonce 12 ‖ ciphertext ‖ tag 16.
/// </summary>
internal static class Ecies
{
    public const int SealingBytes = Gcm.SealingBytes;

    /// <summary>Fills <paramref name="destination"/> and returns the one-time public key.</summary>
    public static AgreementPublicKey Seal(
        AgreementPublicKey recipient, ReadOnlySpan<byte> label, ReadOnlySpan<byte> authenticated, ReadOnlySpan<byte> plain, Span<byte> destination, IEntropy entropy)
    {
        using var ephemeral = AgreementKey.Create(entropy);
        using var key = new SecretBytes();
        DeriveKey(ephemeral, recipient, ephemeral.Public, recipient, label, key.Span);
        Gcm.Seal(key.Span, plain, authenticated, destination, entropy);
        return ephemeral.Public;
    }

    /// <summary>False when the sealed bytes were made for another key or changed.</summary>
    public static bool TryOpen(
        AgreementKey recipient, AgreementPublicKey ephemeral, ReadOnlySpan<byte> label, ReadOnlySpan<byte> authenticated, ReadOnlySpan<byte> source, Span<byte> plain)
    {
        using var key = new SecretBytes();
        DeriveKey(recipient, ephemeral, ephemeral, recipient.Public, label, key.Span);
        return Gcm.TryOpen(key.Span, source, authenticated, plain);
    }

    private static void DeriveKey(
        AgreementKey own, AgreementPublicKey other, AgreementPublicKey ephemeral, AgreementPublicKey recipient, ReadOnlySpan<byte> label, Span<byte> key)
    {
        Span<byte> salt = stackalloc byte[2 * AgreementPublicKey.PointBytes];
        ephemeral.Point.CopyTo(salt);
        recipient.Point.CopyTo(salt[AgreementPublicKey.PointBytes..]);
        var secret = own.Agree(other);
        KeyDerivation.Derive(secret, salt, label, key);
        CryptographicOperations.ZeroMemory(secret);
    }
}
