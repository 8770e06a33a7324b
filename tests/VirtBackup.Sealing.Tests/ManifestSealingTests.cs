using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format.Manifests;

namespace VirtBackup.Sealing.Tests;

public sealed class ManifestSealingTests : IDisposable
{
    private readonly ECDsa _signer = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private readonly VmKey _key = Fixtures.VmKey();

    private byte[] Spki => _signer.ExportSubjectPublicKeyInfo();

    private byte[] Sealed() => ManifestSealing.Seal(Fixtures.Head(_signer, _key), Fixtures.Body, _key, _signer, SystemEntropy.Instance);

    [Fact]
    public void Manifest_verifies_and_opens()
    {
        var manifest = Manifest.Parse(Sealed());
        ManifestSealing.VerifySignature(manifest, Spki);
        Assert.Equal("web-01", ManifestSealing.Open(manifest, _key).VmName);
        Assert.Equal(Fixtures.Body.ToBytes(), ManifestSealing.Open(manifest, _key).ToBytes());
    }

    [Fact]
    public void Signed_bytes_are_prefix_head_and_body_hash()
    {
        var manifest = Manifest.Parse(Sealed());
        byte[] message = [.. "virtbackup/1 manifest"u8, .. manifest.HeadBytes.Span, .. SHA256.HashData(manifest.SealedBody.Span)];
        Assert.True(_signer.VerifyData(message, manifest.Signature.Span, HashAlgorithmName.SHA256));
    }

    [Fact]
    public void Body_is_bound_to_the_head_by_its_derived_key()
    {
        var manifest = Manifest.Parse(Sealed());
        var body = manifest.SealedBody.Span;
        using var gcm = new AesGcm(Convert.FromHexString(Golden.ManifestKey), 16);
        var plain = new byte[body.Length - 28];
        gcm.Decrypt(body[..12], body[12..^16], body[^16..], plain, SHA256.HashData(manifest.HeadBytes.Span));
        Assert.Equal(Fixtures.Body.ToBytes(), plain);
    }

    [Fact]
    public void Any_flipped_byte_is_refused_even_with_its_hash_repaired()
    {
        var original = Sealed();
        for (var i = 0; i < original.Length - 32; i++)
        {
            var bytes = original.ToArray();
            bytes[i] ^= 0x01;
            Assert.Equal(FaultReason.Corrupt, Fixtures.Refused(() => Manifest.Parse(bytes)).Reason);
            SHA256.HashData(bytes.AsSpan()[..^32], bytes.AsSpan(bytes.Length - 32));
            Fixtures.Refused(() => ManifestSealing.VerifySignature(Manifest.Parse(bytes), Spki));
        }
    }

    [Fact]
    public void A_body_of_another_head_and_another_key_are_refused()
    {
        var manifest = Manifest.Parse(Sealed());
        using var other = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        Assert.Equal(FaultReason.Denied, Fixtures.Refused(() => ManifestSealing.VerifySignature(manifest, other.ExportSubjectPublicKeyInfo())).Reason);
        using var otherKey = VmKey.Create(SystemEntropy.Instance);
        Assert.Equal(FaultReason.Denied, Fixtures.Refused(() => ManifestSealing.Open(manifest, otherKey)).Reason);
        var head = (Fixtures.Head(_signer, _key) with { Sequence = 2 }).ToBytes();
        var moved = Manifest.Parse(Manifest.Assemble(head, manifest.SealedBody.Span, ManifestSealing.Sign(head, manifest.SealedBody.Span, _signer)));
        ManifestSealing.VerifySignature(moved, Spki);
        Assert.Equal(FaultReason.Corrupt, Fixtures.Refused(() => ManifestSealing.Open(moved, _key)).Reason);
        // A signature by a stranger who claims the agent's key id.
        var forged = Manifest.Parse(Manifest.Assemble(manifest.HeadBytes.Span, manifest.SealedBody.Span, ManifestSealing.Sign(manifest.HeadBytes.Span, manifest.SealedBody.Span, other)));
        Assert.Equal(FaultReason.Corrupt, Fixtures.Refused(() => ManifestSealing.VerifySignature(forged, Spki)).Reason);
    }

    public void Dispose()
    {
        _signer.Dispose();
        _key.Dispose();
    }
}
