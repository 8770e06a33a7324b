using System.Security.Cryptography;
using VirtBackup.Core;

namespace VirtBackup.Sealing;

/// <summary>Agents' public signing keys: ECDSA P-256. Safe for concurrent use.</summary>
internal static class SigningKeys
{
    private static readonly KeptKeys<ECDsa> Known = new();

    /// <summary>Whether the key made the signature (r and s, 32 bytes each) over the SHA-256 of the data.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>: not a P-256 key.</exception>
    public static bool Verify(ReadOnlySpan<byte> subjectPublicKeyInfo, ReadOnlySpan<byte> data, ReadOnlySpan<byte> signature)
    {
        // The same curve and encoding as agreement keys, hence the same strict check of form and point.
        var key = Known.Find(subjectPublicKeyInfo, AgreementPublicKey.ImportVerifier);
        lock (key)
        {
            return key.VerifyData(data, signature, HashAlgorithmName.SHA256, DSASignatureFormat.IeeeP1363FixedFieldConcatenation);
        }
    }
}
