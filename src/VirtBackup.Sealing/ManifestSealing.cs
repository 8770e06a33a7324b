using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format.Keys;
using VirtBackup.Format.Manifests;

namespace VirtBackup.Sealing;

/// <summary>Seals, signs, verifies and opens manifests (FORMAT.md, "Manifest").</summary>
public static class ManifestSealing
{
    /// <summary>The whole manifest object: head, sealed body, signature, hash.</summary>
    /// <param name="head">Its body epoch must be <paramref name="key"/>'s, its agent key <paramref name="signer"/>'s.</param>
    /// <param name="body">What is sealed.</param>
    /// <param name="key">The VM key of the head's body epoch.</param>
    /// <param name="signer">The agent's P-256 signing key.</param>
    /// <param name="entropy">Source of the nonce.</param>
    public static byte[] Seal(ManifestHead head, ManifestBody body, VmKey key, ECDsa signer, IEntropy entropy)
    {
        ArgumentNullException.ThrowIfNull(head);
        ArgumentNullException.ThrowIfNull(body);
        ArgumentNullException.ThrowIfNull(key);
        var headBytes = head.ToBytes();
        Check.That(head.BodyEpoch == key.EpochId);
        var plain = body.ToBytes();
        var sealedBody = new byte[plain.Length + Gcm.SealingBytes];
        using var bodyKey = new SecretBytes();
        key.DeriveManifestKey(bodyKey.Span);
        Gcm.Seal(bodyKey.Span, plain, SHA256.HashData(headBytes), sealedBody, entropy);
        CryptographicOperations.ZeroMemory(plain);
        return Manifest.Assemble(headBytes, sealedBody, Sign(headBytes, sealedBody, signer));
    }

    /// <summary>The agent's signature over head and sealed body.</summary>
    public static byte[] Sign(ReadOnlySpan<byte> headBytes, ReadOnlySpan<byte> sealedBody, ECDsa signer)
    {
        ArgumentNullException.ThrowIfNull(signer);
        return signer.SignData(Manifest.SignedBytesOf(headBytes, sealedBody), HashAlgorithmName.SHA256, DSASignatureFormat.IeeeP1363FixedFieldConcatenation);
    }

    /// <summary>Requires that <paramref name="agentKey"/> is the key that the head names and that it signed the manifest.</summary>
    /// <param name="manifest">A parsed manifest.</param>
    /// <param name="agentKey">SubjectPublicKeyInfo of the agent's signing key, from a trusted roster.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.Denied"/>: another key; <see cref="FaultReason.Corrupt"/>: the signature does not fit.</exception>
    public static void VerifySignature(Manifest manifest, ReadOnlySpan<byte> agentKey)
    {
        ArgumentNullException.ThrowIfNull(manifest);
        var keyId = KeyId.Compute(agentKey);
        if (keyId != manifest.Head.AgentKeyId)
        {
            throw new FaultException(FaultReason.Denied, $"The recovery point {manifest.Head.Point} is signed by key {manifest.Head.AgentKeyId}, not by {keyId}.");
        }
        if (!SigningKeys.Verify(agentKey, Manifest.SignedBytesOf(manifest.HeadBytes.Span, manifest.SealedBody.Span), manifest.Signature.Span))
        {
            throw FaultException.Corrupt($"The signature of recovery point {manifest.Head.Point} is not valid: the manifest was not made by agent key {keyId}, or was changed.");
        }
    }

    /// <summary>Opens the sealed body. Verify the signature first: the body proves only that somebody had the VM key.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Denied"/>: the key is of another epoch; <see cref="FaultReason.Corrupt"/> or <see cref="FaultReason.Malformed"/> otherwise.</exception>
    public static ManifestBody Open(Manifest manifest, VmKey key)
    {
        ArgumentNullException.ThrowIfNull(manifest);
        ArgumentNullException.ThrowIfNull(key);
        if (manifest.Head.BodyEpoch != key.EpochId)
        {
            throw new FaultException(FaultReason.Denied, $"The body of recovery point {manifest.Head.Point} needs the VM key of epoch {manifest.Head.BodyEpoch}, not {key.EpochId}.");
        }
        using var bodyKey = new SecretBytes();
        key.DeriveManifestKey(bodyKey.Span);
        var plain = new byte[manifest.SealedBody.Length - Gcm.SealingBytes];
        if (!Gcm.TryOpen(bodyKey.Span, manifest.SealedBody.Span, SHA256.HashData(manifest.HeadBytes.Span), plain))
        {
            throw FaultException.Corrupt($"The body of recovery point {manifest.Head.Point} does not open: it was changed after sealing.");
        }
        var body = ManifestBody.Parse(plain);
        CryptographicOperations.ZeroMemory(plain);
        return body;
    }
}
