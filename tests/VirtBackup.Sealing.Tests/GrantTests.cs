using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format.Keys;

namespace VirtBackup.Sealing.Tests;

public sealed class GrantTests : IDisposable
{
    private readonly ECDsa _signer = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private readonly AgreementKey _oneTime = AgreementKey.Create(SystemEntropy.Instance);
    private readonly VmKey _vmKey = Fixtures.VmKey();
    private readonly IdKey _idKey = Fixtures.IdKey();

    private byte[] Spki => _signer.ExportSubjectPublicKeyInfo();

    private GrantRequest Request() => new()
    {
        Vm = Fixtures.Name(2), Point = Fixtures.Name(4), AgentKeyId = KeyId.Compute(Spki), Nonce = Fixtures.Name(7), OneTimeKey = _oneTime.Public,
    };

    private byte[] Grant() => RestoreGrant.Seal(GrantRequest.Verify(Request().Sign(_signer), Spki), [_vmKey], [_idKey], 1000, SystemEntropy.Instance);

    [Fact]
    public void Grant_carries_the_keys()
    {
        using var grant = RestoreGrant.Open(Grant(), Request(), _oneTime, 999);
        Assert.Equal(1000, grant.ExpiresMs);
        Assert.Equal([_vmKey.EpochId], grant.VmKeys.Keys);
        var idKey = Assert.Single(grant.IdKeys);
        Assert.Equal((_idKey.Scope, _idKey.Generation), (idKey.Scope, idKey.Generation));
        var record = Fixtures.Seal(Fixtures.Text, out var id, out var secret);
        var masked = _vmKey.Mask(id, secret);
        using var ring = new ChunkKeyRing(grant.IdKeys);
        using var opener = new ChunkOpener(ring);
        var plain = new byte[Fixtures.Text.Length];
        opener.Open(record, id, grant.VmKeys[_vmKey.EpochId].Unmask(id, masked), plain);
        Assert.Equal(Fixtures.Text, plain);
    }

    [Fact]
    public void Any_flipped_byte_of_a_grant_is_refused()
    {
        var original = Grant();
        for (var i = 0; i < original.Length; i++)
        {
            var bytes = original.ToArray();
            bytes[i] ^= 0x01;
            Fixtures.Refused(() => RestoreGrant.Open(bytes, Request(), _oneTime, 0));
        }
        Assert.Equal(FaultReason.Malformed, Fixtures.Refused(() => RestoreGrant.Open([.. original, 0], Request(), _oneTime, 0)).Reason);
    }

    [Fact]
    public void Any_flipped_byte_of_a_request_is_refused()
    {
        var original = Request().Sign(_signer);
        Assert.Equal(GrantRequest.Size, original.Length);
        for (var i = 0; i < original.Length; i++)
        {
            var bytes = original.ToArray();
            bytes[i] ^= 0x01;
            Fixtures.Refused(() => GrantRequest.Verify(bytes, Spki));
        }
        using var other = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        Assert.Equal(FaultReason.Denied, Fixtures.Refused(() => GrantRequest.Verify(original, other.ExportSubjectPublicKeyInfo())).Reason);
        Assert.Throws<InvariantException>(() => Request().Sign(other));
    }

    [Fact]
    public void Expired_foreign_and_replayed_grants_are_refused()
    {
        Assert.Equal(FaultReason.Denied, Fixtures.Refused(() => RestoreGrant.Open(Grant(), Request(), _oneTime, 1000)).Reason);
        using var other = AgreementKey.Create(SystemEntropy.Instance);
        Assert.Equal(FaultReason.Corrupt, Fixtures.Refused(() => RestoreGrant.Open(Grant(), Request(), other, 0)).Reason);
        Assert.Equal(FaultReason.Denied, Fixtures.Refused(() => RestoreGrant.Open(Grant(), Request() with { Nonce = Fixtures.Name(8) }, _oneTime, 0)).Reason);
        Assert.Equal(FaultReason.Denied, Fixtures.Refused(() => RestoreGrant.Open(Grant(), Request() with { Point = Fixtures.Name(8) }, _oneTime, 0)).Reason);
    }

    public void Dispose()
    {
        _signer.Dispose();
        _oneTime.Dispose();
        _vmKey.Dispose();
        _idKey.Dispose();
    }
}
