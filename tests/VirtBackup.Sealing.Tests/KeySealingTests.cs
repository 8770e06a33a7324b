using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format.Keys;

namespace VirtBackup.Sealing.Tests;

public sealed class KeySealingTests
{
    private static byte[] Sealed()
    {
        using var recipient = Fixtures.Recipient();
        using var key = Fixtures.VmKey();
        return KeySealing.Seal(key, Fixtures.Name(1), Fixtures.Name(2), recipient.Public, new CountingEntropy()).ToBytes();
    }

    private static byte[] Open(byte[] bytes, AgreementKey recipient)
    {
        using var key = KeySealing.Open(KeyObject.Parse(bytes), recipient);
        var plain = new byte[32];
        key.CopyTo(plain);
        return plain;
    }

    [Fact]
    public void Key_object_is_golden_and_opens()
    {
        using var recipient = Fixtures.Recipient();
        Assert.Equal(Golden.Recipient, recipient.Public.Id.ToString());
        Assert.Equal(Golden.KeyObject, Fixtures.Hex(Sealed()));
        Assert.Equal(Fixtures.VmKeyBytes, Open(Sealed(), recipient));
    }

    [Fact]
    public void Any_flipped_byte_is_refused_even_with_its_hash_repaired()
    {
        using var recipient = Fixtures.Recipient();
        for (var i = 0; i < KeyObject.Size - 32; i++)
        {
            var bytes = Sealed();
            bytes[i] ^= 0x20;
            Assert.Equal(FaultReason.Corrupt, Fixtures.Refused(() => Open(bytes, recipient)).Reason);
            SHA256.HashData(bytes.AsSpan(0, KeyObject.Size - 32), bytes.AsSpan(KeyObject.Size - 32));
            Fixtures.Refused(() => Open(bytes, recipient));
        }
    }

    [Fact]
    public void A_signing_key_off_the_curve_or_in_another_form_is_refused()
    {
        using var pair = AgreementKey.Create(SystemEntropy.Instance);
        var der = pair.Public.SubjectPublicKeyInfo.ToArray();
        Assert.False(Verify(der));
        Assert.Equal(FaultReason.Malformed, Fixtures.Refused(() => Verify([.. der, 0])).Reason);
        Assert.Equal(FaultReason.Malformed, Fixtures.Refused(() => Verify(der[1..])).Reason);
        der[^1] ^= 1;
        Assert.Contains("curve", Fixtures.Refused(() => Verify(der)).Message, StringComparison.Ordinal);
        Assert.Contains("curve", Fixtures.Refused(() => Verify(der)).Message, StringComparison.Ordinal);
    }

    private static bool Verify(byte[] key) => SigningKeys.Verify(key, "data"u8, new byte[64]);

    [Fact]
    public void Of_kept_keys_the_same_bytes_are_imported_once_and_no_more_than_the_bound_are_kept()
    {
        var kept = new KeptKeys<object>();
        var imported = 0;
        object Find(int number) => kept.Find(BitConverter.GetBytes(number), _ =>
        {
            imported++;
            return new object();
        });
        for (var i = 0; i < KeptKeys<object>.CountMax; i++)
        {
            Assert.Same(Find(i), Find(i));
        }
        Assert.Equal(KeptKeys<object>.CountMax, imported);
        Find(-1);
        Find(0);
        Assert.Equal(KeptKeys<object>.CountMax + 2, imported);
    }

    [Fact]
    public void One_public_key_agrees_as_often_as_it_is_asked()
    {
        using var recipient = AgreementKey.Create(SystemEntropy.Instance);
        var known = AgreementPublicKey.FromSubjectPublicKeyInfo(recipient.Public.SubjectPublicKeyInfo.Span);
        Parallel.For(0, 16, _ =>
        {
            using var own = AgreementKey.Create(SystemEntropy.Instance);
            var secret = own.Agree(known);
            lock (recipient)
            {
                Assert.Equal(recipient.Agree(own.Public), secret);
            }
        });
    }

    [Fact]
    public void A_point_off_the_curve_is_refused()
    {
        using var recipient = Fixtures.Recipient();
        var point = recipient.Public.Point.ToArray();
        point[64] ^= 1;
        Assert.Contains("curve", Fixtures.Refused(() => AgreementPublicKey.FromPoint(point)).Message, StringComparison.Ordinal);
        Assert.Equal(FaultReason.Malformed, Fixtures.Refused(() => AgreementPublicKey.FromPoint([4, .. new byte[64]])).Reason);
        Assert.Equal(FaultReason.Malformed, Fixtures.Refused(() => AgreementPublicKey.FromPoint([4, .. Fixtures.Filled(0xff, 64)])).Reason);
        Assert.Equal(FaultReason.Malformed, Fixtures.Refused(() => AgreementPublicKey.FromPoint(recipient.Public.Point[..64])).Reason);
        var forged = KeyObject.Parse(Sealed()) with { Ephemeral = point };
        Assert.Equal(FaultReason.Malformed, Fixtures.Refused(() => KeySealing.Open(forged, recipient)).Reason);
    }

    [Fact]
    public void Only_the_recipient_opens()
    {
        using var other = AgreementKey.Create(SystemEntropy.Instance);
        Assert.Equal(FaultReason.Denied, Fixtures.Refused(() => Open(Sealed(), other)).Reason);
        var renamed = KeyObject.Parse(Sealed()) with { Recipient = other.Public.Id };
        Assert.Equal(FaultReason.Corrupt, Fixtures.Refused(() => KeySealing.Open(renamed, other)).Reason);
    }

    [Fact]
    public void Public_keys_are_what_the_base_library_exports()
    {
        using var library = ECDiffieHellman.Create(ECCurve.NamedCurves.nistP256);
        var spki = library.PublicKey.ExportSubjectPublicKeyInfo();
        var key = AgreementPublicKey.FromSubjectPublicKeyInfo(spki);
        Assert.Equal(spki, key.SubjectPublicKeyInfo.ToArray());
        Assert.Equal(Id16.Read(SHA256.HashData(spki)), key.Id);
        using var wrongCurve = ECDiffieHellman.Create(ECCurve.NamedCurves.nistP384);
        Fixtures.Refused(() => AgreementPublicKey.FromSubjectPublicKeyInfo(wrongCurve.PublicKey.ExportSubjectPublicKeyInfo()));
        var wrongPkcs8 = wrongCurve.ExportPkcs8PrivateKey();
        Assert.Equal(FaultReason.Malformed, Fixtures.Refused(() => AgreementKey.FromPkcs8(wrongPkcs8)).Reason);
        Assert.Equal(FaultReason.Malformed, Fixtures.Refused(() => AgreementKey.FromPkcs8([1, 2, 3])).Reason);
    }

    [Fact]
    public void A_scalar_outside_the_group_is_drawn_again()
    {
        using var key = AgreementKey.Create(new ScriptedEntropy([Fixtures.Filled(0xff, 32), new byte[32], Fixtures.Filled(0x11, 32)]));
        using var expected = Fixtures.Recipient();
        Assert.Equal(expected.Public.Id, key.Public.Id);
    }

    [Fact]
    public void Restore_key_survives_the_keyring()
    {
        using var root = RootSecret.FromBytes(Fixtures.RootBytes);
        using var wrongRoot = RootSecret.Create(SystemEntropy.Instance);
        using var key = AgreementKey.Create(SystemEntropy.Instance);
        var wrapped = WrappedKey.Parse(Keyring.Wrap(key, root, SystemEntropy.Instance).ToBytes());
        using var unwrapped = Keyring.Unwrap(wrapped, root);
        Assert.Equal(key.Public.Id, unwrapped.Public.Id);
        using var vmKey = Fixtures.VmKey();
        using var opened = KeySealing.Open(KeySealing.Seal(vmKey, Fixtures.Name(1), Fixtures.Name(2), key.Public, SystemEntropy.Instance), unwrapped);
        Assert.Equal(vmKey.EpochId, opened.EpochId);
        Assert.Equal(FaultReason.Denied, Fixtures.Refused(() => Keyring.Unwrap(wrapped, wrongRoot)).Reason);
        Assert.Equal(FaultReason.Denied, Fixtures.Refused(() => Keyring.Unwrap(wrapped with { Id = Fixtures.Name(1) }, root)).Reason);
        for (var i = 0; i < wrapped.Sealed.Length; i++)
        {
            var damaged = wrapped.Sealed.ToArray();
            damaged[i] ^= 1;
            Fixtures.Refused(() => Keyring.Unwrap(wrapped with { Sealed = damaged }, root));
        }
    }

    private sealed class ScriptedEntropy(byte[][] script) : IEntropy
    {
        private int _next;

        public void Fill(Span<byte> destination) => script[_next++].CopyTo(destination);
    }
}
