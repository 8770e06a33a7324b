using CsCheck;
using VirtBackup.Core;
using VirtBackup.Format.Records;

namespace VirtBackup.Format.Tests;

public sealed class RecordTests
{
    private static byte[] Written(RecordHeader header)
    {
        var bytes = new byte[RecordHeader.Size];
        header.Write(bytes);
        return bytes;
    }

    [Fact]
    public void Bytes_are_golden() => Assert.Equal(Golden.Record, Samples.Hex(Written(Samples.DataHeader)));

    [Fact]
    public void Crc_matches_the_published_vectors()
    {
        Assert.Equal(0xE3069283u, Crc32C.Compute("123456789"u8));
        Assert.Equal(0x8A9136AAu, Crc32C.Compute(new byte[32])); // RFC 3720 B.4
    }

    [Fact]
    public void Written_headers_read_back() =>
        Gen.Select(Gen.Int[1, Limits.ChunkBytesMax], Gen.Int[1, Limits.ChunkBytesMax], Gen.Byte[1, 255], Gen.UShort).Sample((raw, packed, name, generation) =>
        {
            var codec = packed < raw ? RecordCodec.Zstd : RecordCodec.Raw;
            var header = new RecordHeader(RecordKind.Data, codec, raw, Math.Min(raw, packed) + 28, Samples.Hash(name), Samples.Name(name), generation);
            return RecordHeader.Parse(Written(header)) == header && RecordHeader.TryParse(Written(header), out var again) && again == header;
        });

    [Fact]
    public void Node_header_reads_back()
    {
        var header = RecordHeader.ForNode(Samples.Hash(9), 777);
        Assert.Equal(header, RecordHeader.Parse(Written(header)));
    }

    [Fact]
    public void Damaged_headers_are_refused() => Mutation.Sample(Written(Samples.DataHeader), ChecksumRepair.OfRecord, bytes =>
    {
        var header = RecordHeader.Parse(bytes);
        return [.. Written(header), .. bytes[RecordHeader.Size..]];
    });

    [Theory]
    [InlineData(0, 1)] // magic
    [InlineData(8, 2)] // version
    [InlineData(9, 3)] // kind
    [InlineData(9, 2)] // a map with the fields of a chunk
    [InlineData(10, 2)] // codec
    [InlineData(11, 1)] // flags
    [InlineData(70, 1)] // reserved
    [InlineData(15, 1)] // raw length over the limit
    [InlineData(19, 1)] // sealed length over the limit
    [InlineData(18, 8)] // compressed but longer
    public void Each_rule_is_enforced(int at, byte value)
    {
        var bytes = Written(Samples.DataHeader);
        bytes[at] = value;
        var fault = Assert.Throws<FaultException>(() => RecordHeader.Parse(ChecksumRepair.OfRecord(bytes)));
        Assert.Equal(FaultReason.Malformed, fault.Reason);
        Assert.DoesNotContain("checksum", fault.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Zero_id_wrong_checksum_and_wrong_raw_length_are_refused()
    {
        var zeroId = Written(Samples.DataHeader);
        zeroId.AsSpan(20, 32).Clear();
        Assert.False(RecordHeader.TryParse(ChecksumRepair.OfRecord(zeroId), out _));
        var flipped = Written(Samples.DataHeader);
        flipped[30] ^= 1;
        Assert.False(RecordHeader.TryParse(flipped, out _));
        Assert.False(RecordHeader.TryParse(Written(Samples.DataHeader).AsSpan(0, 75), out _));
        var raw = Written(new RecordHeader(RecordKind.Data, RecordCodec.Raw, 100, 128, Samples.Hash(1), default, 0));
        raw[12] = 101;
        Assert.False(RecordHeader.TryParse(ChecksumRepair.OfRecord(raw), out _));
    }

    [Fact]
    public void Broken_headers_are_never_written() =>
        Assert.Throws<InvariantException>(() => Written(Samples.DataHeader with { SealedLength = 28 }));
}
