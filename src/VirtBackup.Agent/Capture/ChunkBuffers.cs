using System.Threading.Channels;

namespace VirtBackup.Agent.Capture;

/// <summary>A fixed number of equal buffers: the bound of a run's memory. Safe for concurrent use.</summary>
internal sealed class ChunkBuffers
{
    private readonly Channel<byte[]> _free;
    private readonly int _bytes;
    private int _left;

    public ChunkBuffers(int count, int bytes)
    {
        _free = Channel.CreateBounded<byte[]>(count);
        _bytes = bytes;
        _left = count;
    }

    /// <summary>Waits for a buffer. Buffers are made when first needed.</summary>
    public ValueTask<byte[]> TakeAsync(CancellationToken cancellationToken)
    {
        if (_free.Reader.TryRead(out var buffer))
        {
            return ValueTask.FromResult(buffer);
        }
        if (Interlocked.Decrement(ref _left) >= 0)
        {
            return ValueTask.FromResult(GC.AllocateUninitializedArray<byte>(_bytes));
        }
        return _free.Reader.ReadAsync(cancellationToken);
    }

    public void Return(byte[] buffer) => Core.Check.That(_free.Writer.TryWrite(buffer));
}
