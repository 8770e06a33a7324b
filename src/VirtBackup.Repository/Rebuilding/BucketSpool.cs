using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VirtBackup.Database;

namespace VirtBackup.Repository.Rebuilding;

/// <summary>
/// Items that are put into buckets as they come, and read back bucket by bucket in the same order. Of each bucket one block
/// is in memory, the others are in scratch. Not safe for concurrent use.
/// </summary>
internal sealed class BucketSpool<T>(IScratch scratch, int buckets)
    where T : unmanaged
{
    private const int BlockBytes = 32 << 10;
    private const int FirstItems = 4;

    private static readonly int ItemsPerBlock = BlockBytes / Unsafe.SizeOf<T>();

    private readonly T[][] _open = [.. Enumerable.Repeat<T[]>([], buckets)];
    private readonly int[] _openCounts = new int[buckets];
    private readonly List<long>?[] _blocks = new List<long>?[buckets];
    private T[] _read = [];

    public long CountOf(int bucket) => ((long)(_blocks[bucket]?.Count ?? 0) * ItemsPerBlock) + _openCounts[bucket];

    public void Add(int bucket, in T item)
    {
        ref var count = ref _openCounts[bucket];
        if (count == _open[bucket].Length)
        {
            MakeRoom(bucket);
        }
        _open[bucket][count++] = item;
    }

    /// <summary>Blocks of a bucket, the last of which may be empty.</summary>
    public int BlocksOf(int bucket) => (_blocks[bucket]?.Count ?? 0) + 1;

    /// <summary>The items of a block, until the next call.</summary>
    public ReadOnlySpan<T> ReadBlock(int bucket, int block)
    {
        if (_blocks[bucket] is not { } blocks || block == blocks.Count)
        {
            return _open[bucket].AsSpan(0, _openCounts[bucket]);
        }
        if (_read.Length == 0)
        {
            _read = new T[ItemsPerBlock];
        }
        scratch.Read(blocks[block], MemoryMarshal.AsBytes(_read.AsSpan()));
        return _read;
    }

    private void MakeRoom(int bucket)
    {
        if (_openCounts[bucket] < ItemsPerBlock)
        {
            Array.Resize(ref _open[bucket], Math.Min(ItemsPerBlock, Math.Max(FirstItems, 4 * _openCounts[bucket])));
            return;
        }
        (_blocks[bucket] ??= []).Add(scratch.Length);
        scratch.Append(MemoryMarshal.AsBytes(_open[bucket].AsSpan()));
        _openCounts[bucket] = 0;
    }
}
