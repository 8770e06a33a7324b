using System.Buffers;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.Core;
using VirtBackup.Core;

namespace VirtBackup.Protocol.Grpc;

/// <summary>
/// One message <c>{ bytes data = 1; }</c> of a data stream, its data in a pooled buffer: no message is made, cleared and
/// collected for every 64 KiB.
/// </summary>
internal sealed class ReceivedSlice : IDisposable
{
    private const int DataField = 1;
    private byte[]? _buffer;
    private int _length;

    private ReceivedSlice()
    {
    }

    public ReadOnlyMemory<byte> Memory => _buffer.AsMemory(0, _length);

    public static Method<TRequest, ReceivedSlice> MethodOf<TRequest>(MethodDescriptor method)
        where TRequest : IMessage<TRequest>, new()
    {
        var request = Marshallers.Create(static (TRequest message) => message.ToByteArray(), new MessageParser<TRequest>(static () => new TRequest()).ParseFrom);
        var response = new Marshaller<ReceivedSlice>(
            static (_, _) => throw new NotSupportedException("Slices are only received."), static context => Parse(context.PayloadAsReadOnlySequence()));
        return new Method<TRequest, ReceivedSlice>(MethodType.ServerStreaming, method.Service.FullName, method.Name, request, response);
    }

    /// <summary>
    /// Reads the message as protobuf's wire format has it (protobuf.dev/programming-guides/encoding): the last of equal
    /// fields counts, unknown fields are skipped.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>: not such a message, or data above <see cref="Limits.SliceBytesMax"/>.</exception>
    public static ReceivedSlice Parse(ReadOnlySequence<byte> message)
    {
        var slice = new ReceivedSlice();
        try
        {
            var reader = new SequenceReader<byte>(message);
            while (!reader.End)
            {
                var tag = ReadVarint(ref reader);
                var (field, type) = (tag >> 3, (WireFormat.WireType)(tag & 7));
                if (field is 0 or > (1 << 29) - 1)
                {
                    throw Malformed();
                }
                if (field == DataField && type == WireFormat.WireType.LengthDelimited)
                {
                    slice.Take(ref reader, ReadLength(ref reader, Limits.SliceBytesMax));
                }
                else
                {
                    Skip(ref reader, type);
                }
            }
            return slice;
        }
        catch
        {
            slice.Dispose();
            throw;
        }
    }

    public void Dispose()
    {
        if (_buffer is { } buffer)
        {
            (_buffer, _length) = (null, 0);
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    private void Take(ref SequenceReader<byte> reader, int length)
    {
        _buffer ??= ArrayPool<byte>.Shared.Rent(Limits.SliceBytesMax);
        _length = length;
        _ = reader.TryCopyTo(_buffer.AsSpan(0, length));
        reader.Advance(length);
    }

    private static void Skip(ref SequenceReader<byte> reader, WireFormat.WireType type)
    {
        var length = type switch
        {
            WireFormat.WireType.Varint => 0,
            WireFormat.WireType.Fixed64 => sizeof(ulong),
            WireFormat.WireType.Fixed32 => sizeof(uint),
            WireFormat.WireType.LengthDelimited => ReadLength(ref reader, int.MaxValue),
            _ => throw Malformed(),
        };
        if (type == WireFormat.WireType.Varint)
        {
            _ = ReadVarint(ref reader);
        }
        if (length > reader.Remaining)
        {
            throw Malformed();
        }
        reader.Advance(length);
    }

    private static int ReadLength(ref SequenceReader<byte> reader, int max)
    {
        var length = ReadVarint(ref reader);
        return length <= (ulong)Math.Min(max, reader.Remaining) ? (int)length : throw Malformed();
    }

    private static ulong ReadVarint(ref SequenceReader<byte> reader)
    {
        ulong value = 0;
        for (var shift = 0; shift < 64; shift += 7)
        {
            if (!reader.TryRead(out var next))
            {
                break;
            }
            value |= (ulong)(next & 0x7f) << shift;
            if (next < 0x80)
            {
                return value;
            }
        }
        throw Malformed();
    }

    private static FaultException Malformed() => FaultException.Malformed("A message of a data stream is damaged or too long.");
}
