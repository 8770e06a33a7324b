using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format.Records;

namespace VirtBackup.Sealing;

/// <summary>AES-256-GCM with a random nonce in front and the tag behind: nonce 12 ‖ ciphertext ‖ tag 16.</summary>
internal static class Gcm
{
    public const int SealingBytes = RecordHeader.SealingBytes;

    private const int NonceBytes = RecordHeader.NonceBytes;
    private const int TagBytes = RecordHeader.TagBytes;

    public static void Seal(ReadOnlySpan<byte> key, ReadOnlySpan<byte> plain, ReadOnlySpan<byte> authenticated, Span<byte> destination, IEntropy entropy)
    {
        Check.That(destination.Length == plain.Length + SealingBytes);
        var nonce = destination[..NonceBytes];
        entropy.Fill(nonce);
        using var gcm = new AesGcm(key, TagBytes);
        gcm.Encrypt(nonce, plain, destination.Slice(NonceBytes, plain.Length), destination[^TagBytes..], authenticated);
    }

    /// <summary>False when a byte of source or authenticated data differs from what was sealed; <paramref name="plain"/> is cleared then.</summary>
    public static bool TryOpen(ReadOnlySpan<byte> key, ReadOnlySpan<byte> source, ReadOnlySpan<byte> authenticated, Span<byte> plain)
    {
        Check.That(source.Length == plain.Length + SealingBytes);
        using var gcm = new AesGcm(key, TagBytes);
        try
        {
            gcm.Decrypt(source[..NonceBytes], source[NonceBytes..^TagBytes], source[^TagBytes..], plain, authenticated);
            return true;
        }
        catch (AuthenticationTagMismatchException)
        {
            return false;
        }
    }
}
