using CsCheck;
using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format.Maps;

namespace VirtBackup.Format.Tests;

public sealed class MapTests
{
    private static byte[] Tail() => MapLeaf.Build(Samples.TailPlace, Samples.TailEntries())!;

    private static byte[] Content() => MapLeaf.Build(Samples.ContentPlace, Samples.ContentEntries())!;

    private static byte[] Inner() => MapInner.Build(Samples.InnerPlace, Samples.InnerChildren())!;

    private static MapEntry[] Entries(MapLeaf leaf) => Enumerable.Range(0, leaf.Count).Select(i => leaf[i]).ToArray();

    [Fact]
    public void Bytes_are_golden()
    {
        Assert.Equal(Golden.FixedLeaf, Samples.Hex(Tail()));
        Assert.Equal(Golden.ContentLeaf, Samples.Hex(Content()));
        Assert.Equal(Golden.Inner, Samples.Hex(Inner()));
        Assert.Equal(Golden.InnerId, NodeId.Compute(Inner()).ToString());
        Assert.Equal(SHA256.HashData([.. "node\0"u8, .. Tail()]), NodeId.Compute(Tail()).ToArray());
    }

    [Fact]
    public void Nodes_read_back()
    {
        Assert.Equal(Samples.TailEntries(), Entries(MapLeaf.Parse(Tail(), Samples.TailPlace)));
        Assert.Equal(Samples.ContentEntries(), Entries(MapLeaf.Parse(Content(), Samples.ContentPlace)));
        var inner = MapInner.Parse(Inner(), Samples.InnerPlace);
        Assert.Equal(Samples.InnerChildren(), Enumerable.Range(0, inner.Count).Select(i => inner[i]));
    }

    [Fact]
    public void Any_content_defined_leaf_reads_back() =>
        Gen.Select(Gen.Int[1, 900], Gen.Byte[0, 9]).Array[1, 18].Sample(parts =>
        {
            var entries = parts.Select(part => part.Item2 == 0
                ? MapEntry.Zeros(part.Item1)
                : new MapEntry(part.Item1, Samples.Hash(part.Item2), Samples.Hash((byte)part.Item1), Samples.Name(part.Item2))).ToArray();
            var place = new MapPlace(Samples.SmallContentShape, 0, entries.Sum(entry => entry.Length));
            var node = MapLeaf.Build(place, entries);
            return node is null ? entries.All(entry => entry.IsZero) : Entries(MapLeaf.Parse(node, place)).SequenceEqual(entries);
        });

    [Fact]
    public void Zero_subtrees_are_not_stored()
    {
        Assert.Null(MapLeaf.Build(new MapPlace(Samples.SmallShape, 0, 5000), [MapEntry.Zeros(4096), MapEntry.Zeros(904)]));
        Assert.Null(MapInner.Build(Samples.InnerPlace, new Id32[3]));
        var inner = Inner();
        inner.AsSpan(16).Clear();
        Refused(() => MapInner.Parse(inner, Samples.InnerPlace));
        var leaf = Tail();
        leaf.AsSpan(48).Clear();
        Refused(() => MapLeaf.Parse(leaf, Samples.TailPlace));
    }

    [Theory]
    [InlineData(0, 1)] // magic
    [InlineData(4, 2)] // version
    [InlineData(5, 2)] // kind
    [InlineData(6, 1)] // level of a leaf
    [InlineData(7, 3)] // chunker
    [InlineData(7, 2)] // the other chunker: the length disagrees
    [InlineData(8, 25)] // span
    [InlineData(9, 11)] // chunk
    [InlineData(10, 0)] // no epochs
    [InlineData(12, 2)] // count
    [InlineData(31, 0xff)] // order of epochs: e1e1...ff is still below e2..; see the next line
    [InlineData(16, 0xe3)] // order of epochs
    [InlineData(48 + 192, 2)] // an epoch that is not listed
    [InlineData(48 + 192, 0)] // an epoch that no entry uses
    [InlineData(48 + 193, 1)] // a zero run with an epoch
    [InlineData(48 + 96 + 40, 1)] // a zero run with a mask
    public void Each_rule_of_a_leaf_is_enforced(int at, byte value)
    {
        var bytes = Tail();
        bytes[at] = value;
        if (at == 31)
        {
            Assert.Equal(3, MapLeaf.Parse(bytes, Samples.TailPlace).Count); // a name has no rule
            return;
        }
        Refused(() => MapLeaf.Parse(bytes, Samples.TailPlace));
    }

    [Fact]
    public void Content_lengths_must_sum_to_the_place_and_be_positive()
    {
        var longer = Content();
        longer[32]++;
        Refused(() => MapLeaf.Parse(longer, Samples.ContentPlace));
        var empty = MapLeaf.Build(Samples.ContentPlace, [new(16383, Samples.Hash(1), Samples.Hash(2), Samples.Name(3)), MapEntry.Zeros(1)])!;
        empty[36] = 0;
        empty[32]++;
        Refused(() => MapLeaf.Parse(empty));
        empty.AsSpan(36, 4).Fill(0xff);
        Refused(() => MapLeaf.Parse(empty));
    }

    [Fact]
    public void A_node_in_the_wrong_place_is_refused()
    {
        Refused(() => MapLeaf.Parse(Tail(), Samples.TailPlace with { Length = 4096 }));
        Refused(() => MapLeaf.Parse(Tail(), Samples.ContentPlace));
        Refused(() => MapLeaf.Parse(Tail(), Samples.TailPlace with { Shape = new MapShape(Chunker.Fixed, 12, 15) }));
        Refused(() => MapLeaf.Parse(Inner(), Samples.TailPlace));
        Refused(() => MapInner.Parse(Tail(), Samples.InnerPlace));
        Refused(() => MapInner.Parse(Inner(), Samples.InnerPlace with { Length = 32768 }));
        Refused(() => MapInner.Parse(Inner(), Samples.InnerPlace with { Level = 2 }));
        NodeId.Require(Inner(), NodeId.Compute(Inner()));
        Assert.Equal(FaultReason.Corrupt, Assert.Throws<FaultException>(() => NodeId.Require(Inner(), NodeId.Compute(Tail()))).Reason);
    }

    [Fact]
    public void Damaged_nodes_are_refused()
    {
        Mutation.Sample(Tail(), Mutation.Keep, bytes => MapLeaf.Build(Samples.TailPlace, Entries(MapLeaf.Parse(bytes, Samples.TailPlace)))!);
        Mutation.Sample(Content(), Mutation.Keep, bytes => MapLeaf.Build(Samples.ContentPlace, Entries(MapLeaf.Parse(bytes, Samples.ContentPlace)))!);
        Mutation.Sample(Inner(), Mutation.Keep, bytes =>
        {
            var inner = MapInner.Parse(bytes, Samples.InnerPlace);
            return MapInner.Build(Samples.InnerPlace, Enumerable.Range(0, inner.Count).Select(i => inner[i]).ToArray())!;
        });
    }

    [Fact]
    public void Wrong_entries_are_never_written()
    {
        Assert.Throws<InvariantException>(() => MapLeaf.Build(Samples.TailPlace, Samples.TailEntries().AsSpan(0, 2)));
        var masked = Samples.TailEntries();
        masked[1] = masked[1] with { MaskedSecret = Samples.Hash(1) };
        Assert.Throws<InvariantException>(() => MapLeaf.Build(Samples.TailPlace, masked));
    }

    [Fact]
    public void More_epochs_than_a_byte_can_name_are_refused()
    {
        var place = new MapPlace(new MapShape(Chunker.ContentDefined, 12, 20), 0, 257);
        var entries = Enumerable.Range(1, 257).Select(i => new MapEntry(1, Samples.Hash(1), Samples.Hash(2), new Id16((UInt128)i))).ToArray();
        Assert.Equal(FaultReason.InvalidArgument, Assert.Throws<FaultException>(() => MapLeaf.Build(place, entries)).Reason);
        var fits = MapLeaf.Build(place with { Length = 256 }, entries.AsSpan(0, 256))!;
        Assert.Equal(256, MapLeaf.Parse(fits, place with { Length = 256 }).EpochCount);
    }

    private static void Refused(Action action) => Assert.Equal(FaultReason.Malformed, AsFault(action));

    private static FaultReason AsFault(Action action)
    {
        var fault = Assert.Throws<FaultException>(action);
        return fault.Reason == FaultReason.Unsupported ? FaultReason.Malformed : fault.Reason;
    }
}
