using System.Buffers;
using System.Collections.Concurrent;
using Microsoft.AspNetCore.Connections;

namespace VirtBackup.Controller.Host;

/// <summary>
/// Blocks of 32 KiB for connections: with Kestrel's own of 4 KiB every one of them is a read of its own from the socket,
/// and a TLS record and a write of its own to it. Safe for concurrent use.
/// </summary>
internal sealed class ConnectionBuffers : MemoryPool<byte>, IMemoryPoolFactory<byte>
{
    private const int BlockBytes = 32 << 10;

    // 8 MiB stay for the next burst.
    private const int SpareMax = 256;

    private readonly ConcurrentQueue<Block> _spare = new();

    public override int MaxBufferSize => BlockBytes;

    /// <summary>All connections share one pool.</summary>
    public MemoryPool<byte> Create(MemoryPoolOptions? options = null) => this;

    /// <summary>A block of pinned memory, whatever less is asked for.</summary>
    /// <exception cref="ArgumentOutOfRangeException">More than <see cref="MaxBufferSize"/> is asked for.</exception>
    public override IMemoryOwner<byte> Rent(int minBufferSize = -1)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(minBufferSize, BlockBytes);
        return _spare.TryDequeue(out var block) ? block.Lend() : new Block(this);
    }

    protected override void Dispose(bool disposing)
    {
        // Its users come and go one by one; the process is its life.
    }

    private void TakeBack(Block block)
    {
        if (_spare.Count < SpareMax)
        {
            _spare.Enqueue(block);
        }
    }

    private sealed class Block(ConnectionBuffers pool) : IMemoryOwner<byte>
    {
        private readonly byte[] _bytes = GC.AllocateUninitializedArray<byte>(BlockBytes, pinned: true);
        private int _returned;

        public Memory<byte> Memory => _bytes;

        public Block Lend()
        {
            _returned = 0;
            return this;
        }

        public void Dispose()
        {
            if (Interlocked.Exchange(ref _returned, 1) == 0)
            {
                pool.TakeBack(this);
            }
        }
    }
}
