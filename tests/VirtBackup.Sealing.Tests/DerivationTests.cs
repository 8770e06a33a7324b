using System.Security.Cryptography;
using CsCheck;
using VirtBackup.Core;

namespace VirtBackup.Sealing.Tests;

public sealed class DerivationTests
{
    [Theory] // RFC 5869 appendix A, test cases 1 to 3: the first 32 bytes of the output
    [InlineData("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "000102030405060708090a0b0c", "f0f1f2f3f4f5f6f7f8f9",
        "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5", "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf")]
    [InlineData("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "", "",
        "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04", "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d")]
    public void Hkdf_follows_rfc_5869(string ikm, string salt, string info, string prk, string okm)
    {
        var extracted = HKDF.Extract(HashAlgorithmName.SHA256, Convert.FromHexString(ikm), Convert.FromHexString(salt));
        Assert.Equal(prk, Fixtures.Hex(extracted));
        var expanded = new byte[32];
        KeyDerivation.ExpandRaw(extracted, Convert.FromHexString(info), expanded);
        Assert.Equal(okm, Fixtures.Hex(expanded));
    }

    [Fact]
    public void Expansion_equals_the_base_library() => Gen.Byte.Array[32, 32].Select(Gen.Byte.Array[0, 96]).Sample((key, info) =>
    {
        var expanded = new byte[32];
        KeyDerivation.ExpandRaw(key, info, expanded);
        return expanded.AsSpan().SequenceEqual(HKDF.Expand(HashAlgorithmName.SHA256, key, 32, info));
    });

    [Fact]
    public void Keys_are_golden()
    {
        var bytes = new byte[32];
        using (var idKey = Fixtures.IdKey())
        {
            idKey.CopyTo(bytes);
        }
        Assert.Equal(Golden.IdKey, Fixtures.Hex(bytes));
        using var keys = Fixtures.ChunkKeys();
        var secret = keys.ComputeSecret(Fixtures.Text);
        secret.Write(bytes);
        Assert.Equal(Golden.Secret, Fixtures.Hex(bytes));
        Assert.Equal(Golden.ChunkId, secret.DeriveId().ToString());
        secret.DeriveRecordKey(bytes);
        Assert.Equal(Golden.RecordKey, Fixtures.Hex(bytes));
        using var vmKey = Fixtures.VmKey();
        Assert.Equal(Golden.Epoch, vmKey.EpochId.ToString());
        Assert.Equal(Golden.Masked, vmKey.Mask(secret.DeriveId(), secret).ToString());
        vmKey.DeriveManifestKey(bytes);
        Assert.Equal(Golden.ManifestKey, Fixtures.Hex(bytes));
        using var root = RootSecret.FromBytes(Fixtures.RootBytes);
        root.DeriveKeyringKey(bytes);
        Assert.Equal(Golden.KeyringKey, Fixtures.Hex(bytes));
    }

    [Fact]
    public void Gear_table_is_golden()
    {
        using var keys = Fixtures.ChunkKeys();
        var table = new ulong[256];
        keys.FillGearTable(table);
        Assert.Equal(Golden.GearFirst, Fixtures.Hex(BitConverter.GetBytes(table[0])));
        Assert.Equal(Golden.GearLast, Fixtures.Hex(BitConverter.GetBytes(table[255])));
        Assert.Equal(256, table.Distinct().Count());
    }

    [Fact]
    public void Scope_and_generation_separate_chunks()
    {
        using var root = RootSecret.FromBytes(Fixtures.RootBytes);
        var ids = new[] { (1, 1), (1, 2), (2, 1) }.Select(pair =>
        {
            using var idKey = root.DeriveIdKey(Fixtures.Name((byte)pair.Item1), (ushort)pair.Item2);
            using var keys = idKey.DeriveChunkKeys();
            return keys.ComputeSecret(Fixtures.Text).DeriveId();
        }).ToArray();
        Assert.Equal(3, ids.Distinct().Count());
    }

    [Fact]
    public void Masks_open_only_with_the_right_epoch_id_and_bits()
    {
        using var keys = Fixtures.ChunkKeys();
        using var vmKey = Fixtures.VmKey();
        using var other = VmKey.Create(SystemEntropy.Instance);
        var secret = keys.ComputeSecret(Fixtures.Text);
        var swapped = keys.ComputeSecret(Fixtures.Small);
        var (id, swappedId) = (secret.DeriveId(), swapped.DeriveId());
        var masked = vmKey.Mask(id, secret);
        Assert.Equal(secret, vmKey.Unmask(id, masked));
        Assert.NotEqual(vmKey.EpochId, other.EpochId);
        Assert.False(other.TryUnmask(id, masked, out var nothing));
        Assert.Equal(default, nothing);
        Assert.False(vmKey.TryUnmask(swappedId, masked, out _));
        Assert.False(vmKey.TryUnmask(id, vmKey.Mask(swappedId, swapped), out _));
        Assert.False(vmKey.TryUnmask(default, default, out _));
        var fault = Fixtures.Refused(() => other.Unmask(id, masked));
        Assert.Equal(FaultReason.Corrupt, fault.Reason);
        Assert.Contains(id.ToString(), fault.Message, StringComparison.Ordinal);
        for (var bit = 0; bit < 128; bit++)
        {
            Assert.False(vmKey.TryUnmask(id, masked ^ new Id32(UInt128.One << bit, 0), out _));
            Assert.False(vmKey.TryUnmask(id, masked ^ new Id32(0, UInt128.One << bit), out _));
        }
    }

    [Fact]
    public void Disposed_secrets_are_gone()
    {
        var bytes = new byte[32];
        var root = RootSecret.Create(SystemEntropy.Instance);
        var idKey = Fixtures.IdKey();
        var vmKey = Fixtures.VmKey();
        var keys = Fixtures.ChunkKeys();
        foreach (var secret in new IDisposable[] { root, idKey, vmKey, keys })
        {
            secret.Dispose();
        }
        Assert.Throws<ObjectDisposedException>(() => root.CopyTo(bytes));
        Assert.Throws<ObjectDisposedException>(() => idKey.CopyTo(bytes));
        Assert.Throws<ObjectDisposedException>(() => vmKey.CopyTo(bytes));
        Assert.Throws<ObjectDisposedException>(() => keys.ComputeSecret(bytes));
        var wiped = SecretBytes.From(Fixtures.Small.Concat(Fixtures.Small).ToArray());
        var view = wiped.Span;
        wiped.Dispose();
        Assert.False(view.ContainsAnyExcept((byte)0));
    }

    [Fact]
    public void Secrets_do_not_print()
    {
        using var keys = Fixtures.ChunkKeys();
        Assert.Equal("ChunkSecret", $"{keys.ComputeSecret(Fixtures.Text)}");
        Assert.Throws<FaultException>(() => RootSecret.FromBytes(new byte[31]));
    }
}
