using CsCheck;
using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;

namespace VirtBackup.Format.Tests;

public sealed class ManifestTests
{
    [Fact]
    public void Bytes_are_golden() => Assert.Equal(Golden.Manifest, Samples.Hex(Samples.ManifestBytes()));

    [Fact]
    public void Manifest_reads_back()
    {
        var bytes = Samples.ManifestBytes();
        var manifest = Manifest.Parse(bytes);
        var expected = Samples.ManifestHead();
        Assert.Equal(expected.Streams, manifest.Head.Streams);
        Assert.Equal(expected.Epochs, manifest.Head.Epochs);
        Assert.Equal(expected with { Streams = manifest.Head.Streams, Epochs = manifest.Head.Epochs }, manifest.Head);
        Assert.Equal(Samples.Name(0xe2), manifest.Head.BodyEpoch);
        Assert.Equal(Samples.Filled(0x77, 40), manifest.SealedBody.ToArray());
        Assert.Equal(Samples.Filled(0x88, 64), manifest.Signature.ToArray());
        Assert.Equal(SHA256.HashData(bytes.AsSpan()[..^32]), manifest.Hash.ToArray());
        Assert.Equal(expected.ToBytes(), manifest.HeadBytes.ToArray());
    }

    [Fact]
    public void Any_flipped_byte_is_refused()
    {
        var bytes = Samples.ManifestBytes();
        for (var i = 0; i < bytes.Length; i++)
        {
            bytes[i] ^= 0x10;
            Assert.Equal(FaultReason.Corrupt, Assert.Throws<FaultException>(() => Manifest.Parse(bytes)).Reason);
            bytes[i] ^= 0x10;
        }
    }

    [Fact]
    public void Damaged_manifests_are_refused() => Mutation.Sample(Samples.ManifestBytes(), ChecksumRepair.OfObject, bytes =>
    {
        var manifest = Manifest.Parse(bytes);
        return Manifest.Assemble(manifest.Head.ToBytes(), manifest.SealedBody.Span, manifest.Signature.Span);
    }, 10_000);

    [Theory]
    [InlineData(0, 1)] // magic
    [InlineData(8, 2)] // version
    [InlineData(9, 3)] // flags
    [InlineData(10, 0)] // consistency
    [InlineData(10, 4)] // consistency
    [InlineData(11, 1)] // reserved
    [InlineData(12, 0)] // head length
    [InlineData(98, 1)] // reserved
    [InlineData(107, 0x80)] // generation below zero
    [InlineData(131, 0x80)] // time below zero
    [InlineData(212, 2)] // body epoch not listed
    [InlineData(214, 1)] // stream count
    [InlineData(216, 3)] // epoch count
    [InlineData(220, 0x23)] // order of streams
    [InlineData(220 + 16, 0)] // stream kind
    [InlineData(220 + 16, 7)] // stream kind
    [InlineData(220 + 17, 3)] // chunker
    [InlineData(220 + 18, 23)] // chunk
    [InlineData(220 + 19, 27)] // span
    [InlineData(220 + 20, 2)] // height
    [InlineData(220 + 21, 1)] // reserved
    [InlineData(220 + 31, 1)] // stream too long
    [InlineData(348, 0xe3)] // order of epochs
    [InlineData(380, 41)] // body length
    public void Each_rule_is_enforced(int at, byte value)
    {
        var bytes = Samples.ManifestBytes();
        bytes[at] = value;
        var fault = Assert.Throws<FaultException>(() => Manifest.Parse(ChecksumRepair.OfObject(bytes)));
        Assert.NotEqual(FaultReason.Corrupt, fault.Reason);
    }

    [Fact]
    public void Heads_that_break_a_rule_are_never_written()
    {
        var head = Samples.ManifestHead();
        Refused(head with { Epochs = [] });
        Refused(head with { Epochs = [Samples.Name(2), Samples.Name(1)] });
        Refused(head with { Streams = [head.Streams[1], head.Streams[0]] });
        Refused(head with { Streams = [head.Streams[0] with { Geometry = new MapGeometry(MapShape.Default, 0) }] });
        Refused(head with { Streams = [.. Enumerable.Range(1, 1025).Select(i => head.Streams[0] with { Id = new Id16((UInt128)i) })] });
        Refused(head with { Vm = default });
        Refused(head with { BodyEpochIndex = 2 });
        Assert.Equal(ManifestHead.FixedSize + 16, (head with { Streams = [], Epochs = [Samples.Name(1)], BodyEpochIndex = 0 }).ToBytes().Length);

        static void Refused(ManifestHead head) =>
            Assert.Equal(FaultReason.InvalidArgument, Assert.Throws<FaultException>(() => head.ToBytes()).Reason);
    }

    [Fact]
    public void Body_reads_back()
    {
        var body = ManifestBody.Parse(Samples.ManifestBody().ToBytes());
        Assert.Equal("web-01", body.VmName);
        Assert.Equal(4, body.Machine!.Value.GetProperty("cpus").GetInt32());
        Assert.Equal("<domain/>"u8, body.Native!.Content);
        Assert.Equal(Samples.ManifestBody().Streams, body.Streams);
        Assert.Equal(Samples.ManifestBody().Statistics, body.Statistics);
        Assert.Equal(Samples.ManifestBody().Quiesce, body.Quiesce);
        Assert.Equal(Samples.ManifestBody().ToBytes(), body.ToBytes());
    }

    [Theory]
    [InlineData("null")]
    [InlineData("[]")]
    [InlineData("{}")]
    [InlineData("{\"vmName\":null}")]
    [InlineData("{\"version\":1,\"vmName\":\"a\",\"hypervisorKind\":\"qemu\",\"streams\":[null],\"agentName\":\"b\"}")]
    [InlineData("{\"version\":1,\"version\":1,\"vmName\":\"a\",\"hypervisorKind\":\"qemu\",\"streams\":[],\"agentName\":\"b\"}")]
    [InlineData("{\"version\":2,\"vmName\":\"a\",\"hypervisorKind\":\"qemu\",\"streams\":[],\"agentName\":\"b\"}")]
    public void Bad_bodies_are_refused(string json) => Assert.Throws<FaultException>(() => ManifestBody.Parse(System.Text.Encoding.UTF8.GetBytes(json)));

    [Fact]
    public void Damaged_bodies_fault_and_nothing_else() => Gen.Select(Gen.Int[0, 2000], Gen.Int[0, 30], Gen.OneOf(Gen.Byte.Array[0, 12], Gen.Const("null"u8.ToArray()), Gen.Const("[[[[[["u8.ToArray()))).Sample((at, cut, insert) =>
    {
        var bytes = Samples.ManifestBody().ToBytes();
        at %= bytes.Length;
        byte[] damaged = [.. bytes[..at], .. insert, .. bytes[Math.Min(bytes.Length, at + cut)..]];
        try
        {
            // What is understood can be used: no part that must be there is missing.
            var body = ManifestBody.Parse(damaged);
            return body.VmName is not null && body.HypervisorKind is not null && body.AgentName is not null && body.Streams.All(static stream => stream is not null) && body.ToBytes().Length > 0;
        }
        catch (FaultException)
        {
            return true;
        }
    }, iter: 4000);

    [Fact]
    public void Tombstones_read_back_and_are_no_manifests()
    {
        var tombstone = new AbortTombstone(Samples.Name(2), Samples.Name(4), 8, 1_700_000_000_123);
        var bytes = tombstone.ToBytes();
        Assert.Equal(Golden.Tombstone, Samples.Hex(bytes));
        Assert.Equal(tombstone, AbortTombstone.Parse(bytes));
        Assert.True(AbortTombstone.IsTombstone(bytes));
        Assert.False(AbortTombstone.IsTombstone(Samples.ManifestBytes()));
        Assert.Throws<FaultException>(() => Manifest.Parse(bytes));
        Mutation.Sample(bytes, ChecksumRepair.OfObject, damaged => AbortTombstone.Parse(damaged).ToBytes());
    }
}
