using CsCheck;
using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;

namespace VirtBackup.Format.Tests;

public sealed class PackTests
{
    private static readonly long Length = Samples.PackEntriesEnd + PackFooter.SuffixLengthOf(3);

    private static byte[] Suffix() => PackFooter.Build(RecordKind.Data, Samples.PackEntries(), Samples.PackEntriesEnd);

    [Fact]
    public void Bytes_are_golden() => Assert.Equal(Golden.PackSuffix, Samples.Hex(Suffix()));

    [Fact]
    public void Footer_reads_back_sorted_and_finds_its_entries()
    {
        var footer = PackFooter.Parse(Suffix(), Length);
        Assert.Equal(RecordKind.Data, footer.Kind);
        Assert.Equal([780u, 204u, 0u], footer.Entries.ToArray().Select(entry => entry.Offset));
        foreach (var entry in Samples.PackEntries())
        {
            Assert.True(footer.TryFind(entry.Header.Id, entry.Header.Scope, out var found));
            Assert.Equal(entry, found);
        }
        Assert.False(footer.TryFind(Samples.Hash(0xaa), Samples.Name(0x57), out _));
    }

    [Fact]
    public void A_longer_suffix_may_be_given_and_a_shorter_one_is_refused()
    {
        Assert.Equal(3, PackFooter.Parse([1, 2, 3, .. Suffix()], Length).Entries.Length);
        Assert.Equal(Suffix().Length, PackTrailer.Parse(Suffix().AsSpan()[^64..], Length).SuffixLength);
        Assert.Equal(FaultReason.Malformed, Assert.Throws<FaultException>(() => PackFooter.Parse(Suffix().AsSpan(1), Length)).Reason);
    }

    [Fact]
    public void Any_set_of_records_reads_back() => Gen.Int[1, 4096].Array[1, 60].Sample(lengths =>
    {
        uint offset = 0;
        var entries = lengths.Select((length, i) =>
        {
            var id = Id32.Read(SHA256.HashData(BitConverter.GetBytes(i)));
            var entry = new PackEntry(RecordHeader.ForNode(id, length), offset);
            offset += (uint)entry.Header.RecordLength;
            return entry;
        }).ToArray();
        var suffix = PackFooter.Build(RecordKind.Map, entries.ToArray(), offset);
        return PackFooter.Parse(suffix, offset + suffix.Length).Entries.ToArray().ToHashSet().SetEquals(entries);
    });

    [Fact]
    public void Damaged_suffixes_are_refused()
    {
        Func<byte[], byte[]> parse = bytes =>
        {
            var length = Samples.PackEntriesEnd + bytes.Length;
            var footer = PackFooter.Parse(bytes, length);
            var again = PackFooter.Build(footer.Kind, footer.Entries.ToArray(), footer.Trailer.FooterOffset);
            return [.. bytes[..^again.Length], .. again];
        };
        Mutation.Sample(Suffix(), ChecksumRepair.OfPack, parse);
        Mutation.Sample(Suffix(), Mutation.Keep, parse);
    }

    [Theory]
    [InlineData(8, 2)] // footer version
    [InlineData(9, 2)] // footer kind
    [InlineData(10, 1)] // reserved
    [InlineData(12, 2)] // count
    [InlineData(16 + 31, 0xdd)] // order of ids
    [InlineData(16 + 48, 0)] // offset: a hole and an overlap
    [InlineData(16 + 52, 0x2d)] // sealed length
    [InlineData(16 + 62, 2)] // kind of an entry
    [InlineData(16 + 63, 7)] // codec of an entry
    [InlineData(208 + 48, 2)] // trailer version
    [InlineData(208 + 49, 3)] // trailer kind
    [InlineData(208 + 50, 1)] // trailer reserved
    [InlineData(208, 1)] // footer offset
    [InlineData(208 + 12, 4)] // trailer count
    public void Each_rule_is_enforced(int at, byte value)
    {
        var bytes = Suffix();
        bytes[at] = value;
        if (at == 16 + 31)
        {
            bytes.AsSpan(16, 32).Fill(value);
        }
        Assert.ThrowsAny<FaultException>(() => PackFooter.Parse(ChecksumRepair.OfPack(bytes), Length));
    }

    [Fact]
    public void A_changed_footer_is_seen_by_its_hash()
    {
        var bytes = Suffix();
        bytes[30] ^= 1;
        Assert.Equal(FaultReason.Corrupt, Assert.Throws<FaultException>(() => PackFooter.Parse(bytes, Length)).Reason);
    }

    [Fact]
    public void Packs_of_two_kinds_or_with_twins_are_never_built()
    {
        var twins = Samples.PackEntries();
        twins[1] = new PackEntry(twins[1].Header with { Scope = Samples.Name(0x55) }, twins[1].Offset);
        Assert.Throws<InvariantException>(() => PackFooter.Build(RecordKind.Data, twins, Samples.PackEntriesEnd));
        Assert.Throws<InvariantException>(() => PackFooter.Build(RecordKind.Map, Samples.PackEntries(), Samples.PackEntriesEnd));
        Assert.Throws<InvariantException>(() => PackFooter.Build(RecordKind.Data, Samples.PackEntries(), Samples.PackEntriesEnd + 1));
    }
}
