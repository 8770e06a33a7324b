using System.Runtime.InteropServices;
using System.Threading.Channels;
using VirtBackup.Core;

namespace VirtBackup.Agent.Flow;

/// <summary>
/// A fixed number of equal buffers: the bound of a run's memory. They lie at page boundaries of pinned memory, so that
/// disks can be written from them without a copy. Safe for concurrent use.
/// </summary>
internal sealed class ChunkBuffers
{
    private readonly Channel<Memory<byte>> _free;
    private readonly int _bytes;
    private int _left;

    /// <param name="bytes">Of each buffer.</param>
    public ChunkBuffers(int count, int bytes)
    {
        _free = Channel.CreateBounded<Memory<byte>>(count);
        _bytes = bytes;
        _left = count;
    }

    public int BufferBytes => _bytes;

    /// <summary>Waits for a buffer. Buffers are made when first needed.</summary>
    public ValueTask<Memory<byte>> TakeAsync(CancellationToken cancellationToken)
    {
        if (_free.Reader.TryRead(out var buffer))
        {
            return ValueTask.FromResult(buffer);
        }
        if (Volatile.Read(ref _left) > 0 && Interlocked.Decrement(ref _left) >= 0)
        {
            return ValueTask.FromResult(Make());
        }
        return _free.Reader.ReadAsync(cancellationToken);
    }

    /// <param name="buffer">As it was taken.</param>
    public void Return(Memory<byte> buffer) => Check.That(buffer.Length == _bytes && _free.Writer.TryWrite(buffer));

    private Memory<byte> Make()
    {
        var array = GC.AllocateUninitializedArray<byte>(_bytes + Limits.PageBytes - 1, pinned: true);
        var beyond = (int)(Marshal.UnsafeAddrOfPinnedArrayElement(array, 0) % Limits.PageBytes);
        return array.AsMemory((Limits.PageBytes - beyond) % Limits.PageBytes, _bytes);
    }
}
