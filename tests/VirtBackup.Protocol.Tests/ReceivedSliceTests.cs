using System.Buffers;
using CsCheck;
using Google.Protobuf;
using VirtBackup.Core;
using VirtBackup.Protocol.Grpc;
using VirtBackup.Protocol.Store.V1;

namespace VirtBackup.Protocol.Tests;

public sealed class ReceivedSliceTests
{
    // field 2: varint, field 3: length-delimited, field 4: fixed64, field 5: fixed32
    private static readonly byte[][] Unknown = [[0x10, 0xff, 0x01], [0x1a, 0x02, 1, 2], [0x21, 1, 2, 3, 4, 5, 6, 7, 8], [0x2d, 1, 2, 3, 4], []];

    [Fact]
    public void Messages_are_read_as_protobuf_reads_them_however_they_are_cut() =>
        Gen.Select(Gen.Byte.Array[0, 300], Gen.Int[0, Unknown.Length - 1], Gen.Int[0, Unknown.Length - 1], Gen.Int[1, 40]).Sample((data, before, behind, cut) =>
        {
            var earlier = new ReadRecordsResponse { Data = ByteString.CopyFrom([1, 2, 3]) }.ToByteArray();
            byte[] message = [.. Unknown[before], .. earlier, .. new ReadRecordsResponse { Data = ByteString.CopyFrom(data) }.ToByteArray(), .. Unknown[behind]];
            using var slice = ReceivedSlice.Parse(Cut(message, cut));
            Assert.Equal(ReadRecordsResponse.Parser.ParseFrom(message).Data.Span, slice.Memory.Span);
        });

    [Fact]
    public void Damaged_messages_are_refused_or_mean_what_protobuf_reads() =>
        Gen.Select(Gen.Byte.Array[0, 60], Gen.Byte.Array[0, 20], Gen.Int[0, 80], Gen.Int[1, 20]).Sample((data, damage, at, cut) =>
        {
            var message = new ReadRecordsResponse { Data = ByteString.CopyFrom(data) }.ToByteArray();
            at = Math.Min(at, message.Length);
            message = [.. message[..at], .. damage, .. message[at..]];
            try
            {
                using var slice = ReceivedSlice.Parse(Cut(message, cut));
                Assert.Equal(ReadRecordsResponse.Parser.ParseFrom(message).Data.Span, slice.Memory.Span);
            }
            catch (FaultException fault)
            {
                Assert.Equal(FaultReason.Malformed, fault.Reason);
            }
        }, iter: 20_000);

    [Fact]
    public void A_slice_is_at_most_as_long_as_agreed()
    {
        static byte[] Of(int length) => new ReadRecordsResponse { Data = UnsafeByteOperations.UnsafeWrap(new byte[length]) }.ToByteArray();
        using var longest = ReceivedSlice.Parse(new ReadOnlySequence<byte>(Of(Limits.SliceBytesMax)));
        Assert.Equal(Limits.SliceBytesMax, longest.Memory.Length);
        Assert.Equal(FaultReason.Malformed, Assert.Throws<FaultException>(() => ReceivedSlice.Parse(new ReadOnlySequence<byte>(Of(Limits.SliceBytesMax + 1)))).Reason);
        using var empty = ReceivedSlice.Parse(ReadOnlySequence<byte>.Empty);
        Assert.Equal(0, empty.Memory.Length);
    }

    private static ReadOnlySequence<byte> Cut(byte[] message, int bytes)
    {
        Segment? first = null;
        Segment? last = null;
        foreach (var part in message.Chunk(bytes))
        {
            last = new Segment(part, last);
            first ??= last;
        }
        return first is null ? ReadOnlySequence<byte>.Empty : new ReadOnlySequence<byte>(first, 0, last!, last!.Memory.Length);
    }

    private sealed class Segment : ReadOnlySequenceSegment<byte>
    {
        public Segment(byte[] bytes, Segment? before)
        {
            Memory = bytes;
            RunningIndex = before is null ? 0 : before.RunningIndex + before.Memory.Length;
            before?.Next = this;
        }
    }
}
