using System.Buffers;
using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using VirtBackup.Core;

namespace VirtBackup.Nbd.Wire;

/// <summary>
/// Reads replies and settles the requests they answer (proto.md, "Simple reply message", "Structured reply chunk message",
/// "Structured reply types"). Every length is checked against the request before a byte is stored. Ends at the end of the
/// stream between two messages; everything else that is not a valid reply is a fault.
/// </summary>
internal sealed class ReplyLoop(Stream stream, string server, NbdExport export, RequestTable table)
{
    private const int DescriptorBytes = 8;

    private readonly BufferedReader _reader = new(stream);
    private readonly byte[] _header = new byte[NbdWire.StructuredReplyHeaderBytes];
    private readonly byte[] _scratch = new byte[32 << 10];

    public async Task RunAsync(CancellationToken cancellationToken)
    {
        while (await _reader.WaitAsync(cancellationToken))
        {
            await _reader.ReadExactlyAsync(_header.AsMemory(0, NbdWire.SimpleReplyHeaderBytes), cancellationToken);
            var magic = BinaryPrimitives.ReadUInt32BigEndian(_header);
            var request = table.Find(BinaryPrimitives.ReadUInt64BigEndian(_header.AsSpan(8)));
            if (magic == NbdWire.SimpleReplyMagic)
            {
                await SimpleAsync(Owed(request), BinaryPrimitives.ReadUInt32BigEndian(_header.AsSpan(4)), cancellationToken);
            }
            else if (magic == NbdWire.StructuredReplyMagic && export.StructuredReplies)
            {
                await ChunkAsync(Owed(request), cancellationToken);
            }
            else
            {
                throw Malformed($"a reply begins with {magic:x8}");
            }
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private async ValueTask SimpleAsync(PendingRequest request, uint error, CancellationToken cancellationToken)
    {
        if (error != 0)
        {
            Finish(request, Describe(request, (NbdError)error, null));
            return;
        }
        if (request.Command == NbdCommand.BlockStatus || (request.Command == NbdCommand.Read && export.StructuredReplies))
        {
            throw Malformed("it sent a simple reply where only a structured one may be");
        }
        if (request.Command == NbdCommand.Read)
        {
            await ReceiveAsync(request, 0, request.Length, cancellationToken);
        }
        Finish(request, null);
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private async ValueTask ChunkAsync(PendingRequest request, CancellationToken cancellationToken)
    {
        await _reader.ReadExactlyAsync(_header.AsMemory(NbdWire.SimpleReplyHeaderBytes), cancellationToken);
        var done = (BinaryPrimitives.ReadUInt16BigEndian(_header.AsSpan(4)) & NbdWire.ChunkFlagDone) != 0;
        var type = BinaryPrimitives.ReadUInt16BigEndian(_header.AsSpan(6));
        var length = BinaryPrimitives.ReadUInt32BigEndian(_header.AsSpan(16));
        switch (type)
        {
            case NbdWire.ChunkNone when done && length == 0:
                break;
            case NbdWire.ChunkData when request.Command == NbdCommand.Read:
                await DataAsync(request, length, cancellationToken);
                break;
            case NbdWire.ChunkHole when request.Command == NbdCommand.Read && length == 12:
                await HoleAsync(request, cancellationToken);
                break;
            case NbdWire.ChunkBlockStatus when request.Command == NbdCommand.BlockStatus:
                await BlockStatusAsync(request, length, cancellationToken);
                break;
            case >= NbdWire.ChunkErrorBit:
                await ErrorAsync(request, type, length, cancellationToken);
                break;
            default:
                throw Malformed($"a chunk of type {type} and {length} bytes does not answer a request of type {request.Command}");
        }
        if (done)
        {
            Finish(request, Outcome(request));
        }
    }

    private NbdErrorException? Outcome(PendingRequest request)
    {
        var reply = request.Reply;
        if (reply.Error is { } error)
        {
            return Describe(request, error, reply.ErrorMessage);
        }
        if (request.Command == NbdCommand.Read && !reply.Coverage.IsComplete(request.Length))
        {
            throw Malformed("it claims success for a read without sending all of the data");
        }
        if (request.Command == NbdCommand.BlockStatus && reply.ContextsSeen != (1u << export.Contexts.Count) - 1)
        {
            throw Malformed("it claims success for a block status without reporting every context");
        }
        return null;
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private async ValueTask DataAsync(PendingRequest request, uint length, CancellationToken cancellationToken)
    {
        if (length < 9)
        {
            throw Malformed("a data chunk carries no data");
        }
        await _reader.ReadExactlyAsync(_header.AsMemory(0, 8), cancellationToken);
        var start = Cover(request, BinaryPrimitives.ReadUInt64BigEndian(_header), length - 8);
        await ReceiveAsync(request, start, (int)(length - 8), cancellationToken);
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private async ValueTask HoleAsync(PendingRequest request, CancellationToken cancellationToken)
    {
        await _reader.ReadExactlyAsync(_header.AsMemory(0, 12), cancellationToken);
        var length = BinaryPrimitives.ReadUInt32BigEndian(_header.AsSpan(8));
        if (length == 0)
        {
            throw Malformed("a hole has no length");
        }
        var start = Cover(request, BinaryPrimitives.ReadUInt64BigEndian(_header), length);
        if (request.TryBorrow(out var destination, out _))
        {
            destination.Span.Slice(start, (int)length).Clear();
            request.GiveBack();
        }
    }

    /// <summary>Checks a piece of a read against the request and earlier pieces; returns its place in the buffer.</summary>
    private int Cover(PendingRequest request, ulong offset, uint length)
    {
        var start = offset - (ulong)request.Offset;
        if (offset < (ulong)request.Offset || start >= (uint)request.Length || length > (uint)request.Length - start)
        {
            throw Malformed($"it sent {length} bytes at offset {offset} for a read of {request.Length} bytes at {request.Offset}");
        }
        if (!request.Reply.Coverage.TryAdd((int)start, (int)length))
        {
            throw Malformed("it sent pieces of a read that overlap or are scattered beyond measure");
        }
        return (int)start;
    }

    /// <summary>Moves payload into the caller's buffer, or past it once the caller has gone.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private async ValueTask ReceiveAsync(PendingRequest request, int start, int length, CancellationToken cancellationToken)
    {
        for (var end = start + length; start < end;)
        {
            if (!request.TryBorrow(out var destination, out _))
            {
                await SkipAsync(end - start, cancellationToken);
                return;
            }
            try
            {
                start += await _reader.ReadSomeAsync(destination[start..end], cancellationToken);
            }
            finally
            {
                request.GiveBack();
            }
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private async ValueTask SkipAsync(int length, CancellationToken cancellationToken)
    {
        while (length > 0)
        {
            length -= await _reader.ReadSomeAsync(_scratch.AsMemory(0, Math.Min(length, _scratch.Length)), cancellationToken);
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private async ValueTask BlockStatusAsync(PendingRequest request, uint length, CancellationToken cancellationToken)
    {
        if (length < 4 + DescriptorBytes || (length - 4) % DescriptorBytes != 0 || (length - 4) / DescriptorBytes > NbdWire.DescriptorsMax)
        {
            throw Malformed($"a block status chunk has {length} bytes");
        }
        await _reader.ReadExactlyAsync(_header.AsMemory(0, 4), cancellationToken);
        var contextId = BinaryPrimitives.ReadUInt32BigEndian(_header);
        var bit = ContextBit(contextId);
        if ((request.Reply.ContextsSeen & bit) != 0)
        {
            throw Malformed("it reported a metadata context twice in one reply");
        }
        request.Reply.ContextsSeen |= bit;
        var wanted = contextId == request.ContextId;
        var position = 0L;
        for (var left = (int)(length - 4); left > 0;)
        {
            var batch = _scratch.AsMemory(0, Math.Min(left, _scratch.Length));
            await _reader.ReadExactlyAsync(batch, cancellationToken);
            position = AddExtents(request, batch.Span, position, wanted);
            left -= batch.Length;
        }
    }

    private long AddExtents(PendingRequest request, ReadOnlySpan<byte> descriptors, long position, bool wanted)
    {
        List<NbdExtent>? extents = null;
        var borrowed = wanted && request.TryBorrow(out _, out extents);
        try
        {
            for (; descriptors.Length > 0; descriptors = descriptors[DescriptorBytes..])
            {
                var length = BinaryPrimitives.ReadUInt32BigEndian(descriptors);
                if (length == 0 || position >= request.Length)
                {
                    throw Malformed("a block status descriptor is empty or lies behind the requested range");
                }
                // Only the last descriptor may reach beyond the request (proto.md, NBD_REPLY_TYPE_BLOCK_STATUS); we asked no further.
                var taken = Math.Min(length, request.Length - position);
                if (borrowed)
                {
                    extents!.Add(new NbdExtent(request.Offset + position, taken, BinaryPrimitives.ReadUInt32BigEndian(descriptors[4..])));
                }
                position += length;
            }
            return position;
        }
        finally
        {
            if (borrowed)
            {
                request.GiveBack();
            }
        }
    }

    private uint ContextBit(uint contextId)
    {
        for (var index = 0; index < export.Contexts.Count; index++)
        {
            if (export.Contexts[index].Id == contextId)
            {
                return 1u << index;
            }
        }
        throw Malformed("it reported a metadata context that was not negotiated");
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    private async ValueTask ErrorAsync(PendingRequest request, ushort type, uint length, CancellationToken cancellationToken)
    {
        var placeBytes = type == NbdWire.ChunkErrorOffset ? 8 : 0;
        if (length < 6 + placeBytes || length > NbdWire.ErrorChunkBytesMax)
        {
            throw Malformed($"an error chunk has {length} bytes");
        }
        var buffer = ArrayPool<byte>.Shared.Rent((int)length);
        try
        {
            var payload = buffer.AsMemory(0, (int)length);
            await _reader.ReadExactlyAsync(payload, cancellationToken);
            var error = BinaryPrimitives.ReadUInt32BigEndian(payload.Span);
            var messageLength = BinaryPrimitives.ReadUInt16BigEndian(payload.Span[4..]);
            if (error == 0 || messageLength > length - 6 - placeBytes)
            {
                throw Malformed("an error chunk has no error or a message longer than itself");
            }
            if (placeBytes > 0)
            {
                var place = BinaryPrimitives.ReadUInt64BigEndian(payload.Span[(6 + messageLength)..]);
                if (place < (ulong)request.Offset || place - (ulong)request.Offset >= (uint)request.Length)
                {
                    throw Malformed("an error lies outside the request");
                }
            }
            if (request.Reply.Error is null)
            {
                request.Reply.Error = (NbdError)error;
                request.Reply.ErrorMessage = NbdWire.Printable(payload.Span.Slice(6, messageLength));
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    private void Finish(PendingRequest request, Exception? failure)
    {
        if (request.Finish(failure))
        {
            table.Return(request);
        }
    }

    private NbdErrorException Describe(PendingRequest request, NbdError error, string? message) =>
        new(request.Command, request.Offset, request.Length, error, message, server);

    private PendingRequest Owed(PendingRequest? request) =>
        request ?? throw Malformed("a reply answers no request that is in flight");

    private FaultException Malformed(string what) => NbdWire.Malformed(server, what);
}
