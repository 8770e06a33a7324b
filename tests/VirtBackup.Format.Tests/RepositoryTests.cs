using System.Text;
using CsCheck;
using VirtBackup.Core;

namespace VirtBackup.Format.Tests;

public sealed class RepositoryTests
{
    [Fact]
    public void Head_is_golden_and_reads_back()
    {
        var bytes = Samples.RepositoryHead().ToBytes();
        Assert.Equal(Golden.RepositoryHead, Encoding.UTF8.GetString(bytes));
        var head = RepositoryHead.Parse(bytes);
        Assert.Equal((Samples.RepositoryHead().Uuid, Samples.RepositoryHead().Created), (head.Uuid, head.Created));
        Assert.Equal(Samples.RepositoryHead().Scopes, head.Scopes);
        Assert.Equal(new byte[] { 1, 2, 3 }, head.RestoreKey);
        Assert.Equal(bytes, head.ToBytes());
    }

    [Theory]
    [InlineData("\"features\": []", "\"features\": [\"time-travel\"]", FaultReason.Unsupported)]
    [InlineData("hmac-sha256", "hmac-md5", FaultReason.Unsupported)]
    [InlineData("repository 1", "repository 2", FaultReason.Unsupported)]
    [InlineData("virtbackup", "virtbookup", FaultReason.Malformed)]
    [InlineData("\"AQID\"", "\"?\"", FaultReason.Malformed)]
    [InlineData("\"AQID\"", "null", FaultReason.Malformed)]
    [InlineData("\"features\": []", "\"features\": [null]", FaultReason.Malformed)]
    [InlineData("\"0505", "\"05", FaultReason.Malformed)]
    [InlineData("\"0101", "\"01", FaultReason.Malformed)]
    [InlineData("\"features\"", "\"uuid\"", FaultReason.Malformed)]
    [InlineData("\"features\"", "\"other\"", FaultReason.Malformed)]
    [InlineData("\"scopes\"", "\"other\"", FaultReason.Malformed)]
    public void Each_rule_of_the_head_is_enforced(string from, string to, FaultReason reason)
    {
        var text = Encoding.UTF8.GetString(Samples.RepositoryHead().ToBytes());
        Assert.Contains(from, text, StringComparison.Ordinal);
        Assert.Equal(reason, Assert.Throws<FaultException>(() => RepositoryHead.Parse(Encoding.UTF8.GetBytes(text.Replace(from, to, StringComparison.Ordinal)))).Reason);
    }

    [Fact]
    public void Damaged_heads_fault_and_nothing_else() => Gen.Select(Gen.Int[0, 300], Gen.Byte).Array[1, 4].Sample(edits =>
    {
        var bytes = Samples.RepositoryHead().ToBytes();
        foreach (var (at, value) in edits)
        {
            bytes[at % bytes.Length] = value;
        }
        try
        {
            return RepositoryHead.Parse(bytes) is not null;
        }
        catch (FaultException)
        {
            return true;
        }
    }, iter: 4000);

    [Fact]
    public void Object_keys_are_golden_and_parse()
    {
        var (a, b, c) = (Samples.Name(0xa), Samples.Name(0xb), Samples.Name(0xc));
        var hash = Samples.Hash(0xfe);
        Assert.Equal($"packs/fe/{hash}.vbp", ObjectKeys.Pack(hash));
        Assert.True(ObjectKeys.TryParsePack(ObjectKeys.Pack(hash), out var readHash) && readHash == hash);
        Assert.Equal($"recovery-points/{a}/{b}.vbm", ObjectKeys.Manifest(a, b));
        Assert.True(ObjectKeys.TryParseManifest(ObjectKeys.Manifest(a, b), out var vm, out var point) && (vm, point) == (a, b));
        Assert.Equal($"keys/{a}/{b}/{c}", ObjectKeys.VmKey(a, b, c));
        Assert.True(ObjectKeys.TryParseVmKey(ObjectKeys.VmKey(a, b, c), out var x, out var y, out var z) && (x, y, z) == (a, b, c));
        Assert.Equal($"keyring/restore-{a}", ObjectKeys.RestoreKey(a));
        Assert.True(ObjectKeys.TryParseRestoreKey(ObjectKeys.RestoreKey(a), out var restore) && restore == a);
        Assert.Equal($"agents/{a}", ObjectKeys.Agent(a));
        Assert.True(ObjectKeys.TryParseAgent(ObjectKeys.Agent(a), out var agent) && agent == a);
        Assert.Equal("owner/00000000000000000042", ObjectKeys.Owner(42));
        Assert.True(ObjectKeys.TryParseOwner(ObjectKeys.Owner(long.MaxValue), out var generation) && generation == long.MaxValue);
        Assert.Equal($"locks/{a}/00000001700000000123", ObjectKeys.Lock(a, 1_700_000_000_123));
        Assert.True(ObjectKeys.TryParseLock(ObjectKeys.Lock(a, 5), out var locked, out var until) && (locked, until) == (a, 5L));
    }

    [Theory]
    [InlineData("packs/ff/fefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefe.vbp")]
    [InlineData("packs/fe/FEfefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefe.vbp")]
    [InlineData("packs/fe/fefe.vbp")]
    [InlineData("packs/")]
    [InlineData("recovery-points/0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a.vbm")]
    [InlineData("recovery-points/0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a/0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a/x.vbm")]
    [InlineData("keys/0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a/0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a")]
    [InlineData("owner/42")]
    [InlineData("owner/-0000000000000000042")]
    [InlineData("owner/99999999999999999999")]
    [InlineData("locks/0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a/5")]
    [InlineData("agents/0a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a")]
    [InlineData("keyring/restore-")]
    [InlineData("")]
    public void Other_keys_do_not_parse(string key)
    {
        Assert.False(ObjectKeys.TryParsePack(key, out _));
        Assert.False(ObjectKeys.TryParseManifest(key, out _, out _));
        Assert.False(ObjectKeys.TryParseVmKey(key, out _, out _, out _));
        Assert.False(ObjectKeys.TryParseRestoreKey(key, out _));
        Assert.False(ObjectKeys.TryParseAgent(key, out _));
        Assert.False(ObjectKeys.TryParseOwner(key, out _));
        Assert.False(ObjectKeys.TryParseLock(key, out _, out _));
    }
}
