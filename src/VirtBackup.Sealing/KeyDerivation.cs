using System.Security.Cryptography;
using VirtBackup.Core;

namespace VirtBackup.Sealing;

/// <summary>HKDF-SHA-256 (RFC 5869) with the product's info strings, all of which start with "virtbackup/1 ".</summary>
internal static class KeyDerivation
{
    /// <summary>Bytes of every key.</summary>
    public const int KeyBytes = 32;

    private const int InfoBytesMax = 96;

    private static ReadOnlySpan<byte> Prefix => "virtbackup/1 "u8;

    /// <summary>HKDF-Expand of 32 bytes with info = "virtbackup/1 " ‖ <paramref name="label"/> ‖ <paramref name="context"/>.</summary>
    public static void Expand(ReadOnlySpan<byte> key, ReadOnlySpan<byte> label, ReadOnlySpan<byte> context, Span<byte> destination)
    {
        Check.That(key.Length == KeyBytes && destination.Length == KeyBytes);
        Span<byte> info = stackalloc byte[InfoBytesMax];
        Prefix.CopyTo(info);
        label.CopyTo(info[Prefix.Length..]);
        context.CopyTo(info[(Prefix.Length + label.Length)..]);
        ExpandRaw(key, info[..(Prefix.Length + label.Length + context.Length)], destination);
    }

    /// <summary>HKDF-Expand (RFC 5869 section 2.3) of 32 bytes.</summary>
    internal static void ExpandRaw(ReadOnlySpan<byte> key, ReadOnlySpan<byte> info, Span<byte> destination) =>
        HKDF.Expand(HashAlgorithmName.SHA256, key, destination, info);

    public static void Expand(ReadOnlySpan<byte> key, ReadOnlySpan<byte> label, Span<byte> destination) => Expand(key, label, [], destination);

    /// <summary>HKDF (extract and expand) of 32 bytes with info = "virtbackup/1 " ‖ <paramref name="label"/>.</summary>
    public static void Derive(ReadOnlySpan<byte> secret, ReadOnlySpan<byte> salt, ReadOnlySpan<byte> label, Span<byte> destination)
    {
        Span<byte> extracted = stackalloc byte[KeyBytes];
        HKDF.Extract(HashAlgorithmName.SHA256, secret, salt, extracted);
        Expand(extracted, label, destination);
        CryptographicOperations.ZeroMemory(extracted);
    }
}
