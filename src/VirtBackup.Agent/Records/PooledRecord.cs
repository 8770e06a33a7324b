using System.Buffers;
using VirtBackup.Format.Records;

namespace VirtBackup.Agent.Records;

/// <summary>One record as it came over the wire, in a pooled buffer that goes back on dispose.</summary>
internal sealed class PooledRecord(RecordHeader header, byte[] buffer) : IDisposable
{
    private byte[]? _buffer = buffer;

    public RecordHeader Header => header;

    /// <summary>Header and payload.</summary>
    public ReadOnlyMemory<byte> Bytes => _buffer.AsMemory(0, header.RecordLength);

    public ReadOnlyMemory<byte> Payload => _buffer.AsMemory(RecordHeader.Size, header.SealedLength);

    public void Dispose()
    {
        if (Interlocked.Exchange(ref _buffer, null) is { } buffer)
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }
}
