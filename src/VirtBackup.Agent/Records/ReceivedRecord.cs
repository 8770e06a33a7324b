using VirtBackup.Agent.Flow;
using VirtBackup.Format.Records;

namespace VirtBackup.Agent.Records;

/// <summary>One record as it came over the wire. Its buffer goes back on dispose, if it was taken from <paramref name="owner"/>.</summary>
internal sealed class ReceivedRecord(RecordHeader header, Memory<byte> buffer, ChunkBuffers? owner) : IDisposable
{
    private ChunkBuffers? _owner = owner;

    public RecordHeader Header => header;

    /// <summary>Header and payload.</summary>
    public ReadOnlyMemory<byte> Bytes => buffer[..header.RecordLength];

    public ReadOnlyMemory<byte> Payload => buffer.Slice(RecordHeader.Size, header.SealedLength);

    public void Dispose() => Interlocked.Exchange(ref _owner, null)?.Return(buffer);
}
