using System.Buffers;
using System.Runtime.CompilerServices;
using Google.Protobuf;
using VirtBackup.Core;
using VirtBackup.Format.Records;

namespace VirtBackup.Agent.Records;

/// <summary>Cuts a stream of slices back into records, with every length checked before a byte is kept.</summary>
internal static class RecordStream
{
    /// <summary>Yields records in order; each is the receiver's to dispose.</summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Malformed"/>: a header is not one, is of another kind, or the stream ends inside a record.
    /// </exception>
    public static async IAsyncEnumerable<PooledRecord> ReadAsync(
        IAsyncEnumerable<ByteString> slices, RecordKind kind, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var head = new byte[RecordHeader.Size];
        var have = 0;
        RecordHeader header = default;
        byte[]? record = null;
        try
        {
            await foreach (var slice in slices.WithCancellation(cancellationToken))
            {
                var rest = slice.Memory;
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
                        record = ArrayPool<byte>.Shared.Rent(header.RecordLength);
                        head.CopyTo(record, 0);
                    }
                    else
                    {
                        var count = Math.Min(header.RecordLength - have, rest.Length);
                        rest[..count].CopyTo(record.AsMemory(have));
                        rest = rest[count..];
                        have += count;
                    }
                    if (record is not null && have == header.RecordLength)
                    {
                        var complete = new PooledRecord(header, record);
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
            if (record is not null)
            {
                ArrayPool<byte>.Shared.Return(record);
            }
        }
    }
}
