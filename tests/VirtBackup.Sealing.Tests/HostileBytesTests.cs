using System.Security.Cryptography;
using CsCheck;
using VirtBackup.Core;

namespace VirtBackup.Sealing.Tests;

/// <summary>Key files, public keys and frames from outside: a fault, or exactly what was written.</summary>
public sealed class HostileBytesTests
{
    private static Gen<byte[]> MutantsOf(byte[] source) =>
        Gen.Select(Gen.Int[0, source.Length], Gen.Int[0, 40], Gen.Byte.Array[0, 40]).Array[1, 2].Select(edits => edits.Aggregate(source, static (bytes, edit) =>
        {
            var at = Math.Min(edit.Item1, bytes.Length);
            return [.. bytes[..at], .. edit.Item3, .. bytes[Math.Min(bytes.Length, at + edit.Item2)..]];
        }));

    [Fact]
    public void Damaged_escrow_files_fault()
    {
        using var keys = EscrowKeys.Create(SystemEntropy.Instance);
        var bytes = keys.Serialize();
        MutantsOf(bytes).Sample(mutant =>
        {
            try
            {
                using var read = EscrowKeys.Parse(mutant);
            }
            catch (FaultException fault)
            {
                Assert.Equal(FaultReason.Corrupt, fault.Reason);
            }
        }, iter: 1500);
    }

    [Fact]
    public void Damaged_public_keys_fault_or_are_the_points_that_they_say()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        MutantsOf(key.ExportSubjectPublicKeyInfo()).Sample(mutant =>
        {
            try
            {
                return AgreementPublicKey.FromSubjectPublicKeyInfo(mutant).SubjectPublicKeyInfo.Span.SequenceEqual(mutant);
            }
            catch (FaultException)
            {
                return true;
            }
        }, iter: 1500);
    }

    [Fact]
    public void Requests_and_grants_of_any_shape_fault()
    {
        using var signer = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var oneTime = AgreementKey.Create(SystemEntropy.Instance);
        using var vmKey = Fixtures.VmKey();
        using var idKey = Fixtures.IdKey();
        var spki = signer.ExportSubjectPublicKeyInfo();
        var request = new GrantRequest { Vm = Fixtures.Name(2), Point = Fixtures.Name(4), AgentKeyId = Format.Keys.KeyId.Compute(spki), Nonce = Fixtures.Name(7), OneTimeKey = oneTime.Public };
        var signed = request.Sign(signer);
        var grant = RestoreGrant.Seal(GrantRequest.Verify(signed, spki), [vmKey], [idKey], 1000, SystemEntropy.Instance);
        MutantsOf(signed).Where(mutant => !mutant.AsSpan().SequenceEqual(signed)).Sample(mutant => Assert.Throws<FaultException>(() => GrantRequest.Verify(mutant, spki)), iter: 500);
        MutantsOf(grant).Where(mutant => !mutant.AsSpan().SequenceEqual(grant)).Sample(mutant => Assert.Throws<FaultException>(() => RestoreGrant.Open(mutant, request, oneTime, 0)), iter: 1500);
    }

    [Fact]
    public void Outlines_of_frames_are_looked_at_without_trust()
    {
        var frame = Convert.FromHexString("28b52ffd2005290000" + "0102030405");
        Assert.True(ZstdFrame.IsExactly(frame, 5));
        MutantsOf(frame).Sample(mutant => { _ = ZstdFrame.IsExactly(mutant, 5); }, iter: 5000);
    }
}
