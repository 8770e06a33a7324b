using System.Security.Cryptography;
using VirtBackup.Core;

namespace VirtBackup.Format.Keys;

/// <summary>The name of a public key: the first 16 bytes of SHA-256 of its SubjectPublicKeyInfo (RFC 5280 section 4.1, DER).</summary>
public static class KeyId
{
    public static Id16 Compute(ReadOnlySpan<byte> subjectPublicKeyInfo)
    {
        Span<byte> hash = stackalloc byte[Id32.Size];
        SHA256.HashData(subjectPublicKeyInfo, hash);
        return Id16.Read(hash);
    }
}
