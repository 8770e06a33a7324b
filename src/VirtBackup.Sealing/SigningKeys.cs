using System.Security.Cryptography;
using VirtBackup.Core;

namespace VirtBackup.Sealing;

/// <summary>Agents' public signing keys: ECDSA P-256.</summary>
internal static class SigningKeys
{
    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>: not a P-256 key.</exception>
    public static ECDsa Import(ReadOnlySpan<byte> subjectPublicKeyInfo) =>
        // The same curve and encoding as agreement keys, hence the same strict check of form and point.
        AgreementPublicKey.ImportVerifier(subjectPublicKeyInfo);
}
