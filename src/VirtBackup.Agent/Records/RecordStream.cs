using System.Runtime.CompilerServices;
using VirtBackup.Agent.Flow;
using VirtBackup.Core;
using VirtBackup.Format.Records;

namespace VirtBackup.Agent.Records;

/// <summary>Cuts a stream of slices back into records, with every length checked before a byte is kept.</summary>
internal static class RecordStream
{
    /// <summary>Yields records in order; each is the receiver's to dispose.</summary>
    /// <param name="slices">Each is valid until the next one is asked for.</param>
    /// <param name="kind">Of all records.</param>
    /// <param name="buffers">
    /// Where records are put; reading waits while none is free, and a longer record is refused. Null: every record gets
    /// memory of its own, which the receiver may keep.
    /// </param>
    /// <param name="cancellationToken">Ends the reading.</param>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Malformed"/>: a header is not one or of another kind, a record is too long, or the stream ends
    /// inside a record.
    /// </exception>
    public static async IAsyncEnumerable<ReceivedRecord> ReadAsync(
        IAsyncEnumerable<ReadOnlyMemory<byte>> slices, RecordKind kind, ChunkBuffers? buffers, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var head = new byte[RecordHeader.Size];
        var have = 0;
        RecordHeader header = default;
        Memory<byte>? record = null;
        try
        {
            await foreach (var slice in slices.WithCancellation(cancellationToken))
            {
                var rest = slice;
                while (rest.Length > 0)
                {
                    if (record is null)
                    {
                        var count = Math.Min(RecordHeader.Size - have, rest.Length);
                        rest[..count].CopyTo(head.AsMemory(have));
                        rest = rest[count..];
                        have += count;
                        if (have < RecordHeader.Size)
                        {
                            continue;
                        }
                        header = RecordHeader.Parse(head);
                        if (header.Kind != kind)
                        {
                            throw FaultException.Malformed($"The controller sent a {header.Kind} record where {kind} records were asked for.");
                        }
                        if (buffers is not null && header.RecordLength > buffers.BufferBytes)
                        {
                            throw FaultException.Malformed($"The controller sent a record of {header.RecordLength} bytes where {buffers.BufferBytes} are the most.");
                        }
                        record = buffers is null ? new byte[header.RecordLength] : await buffers.TakeAsync(cancellationToken);
                        head.CopyTo(record.Value);
                    }
                    else
                    {
                        var count = Math.Min(header.RecordLength - have, rest.Length);
                        rest[..count].CopyTo(record.Value[have..]);
                        rest = rest[count..];
                        have += count;
                    }
                    if (record is { } whole && have == header.RecordLength)
                    {
                        var complete = new ReceivedRecord(header, whole, buffers);
                        record = null;
                        have = 0;
                        yield return complete;
                    }
                }
            }
            if (have != 0)
            {
                throw FaultException.Malformed("The controller's stream ended inside a record.");
            }
        }
        finally
        {
            if (record is { } unfinished)
            {
                buffers?.Return(unfinished);
            }
        }
    }
}
