using VirtBackup.Core;

namespace VirtBackup.Proofs.CollectionScale.Generation;

/// <summary>
/// Names for chunks that look like hashes and can be listed in ascending order without sorting: a seeded permutation gives
/// each number its rank among all ids, and the rank the id's first bytes.
/// </summary>
internal sealed class ChunkNames
{
    private const int Rounds = 4;
    private readonly ulong _seed;
    private readonly ulong _count;
    private readonly int _halfBits;
    private readonly ulong _halfMask;

    public ChunkNames(ulong seed, long count)
    {
        _seed = Mix(seed);
        _count = (ulong)count;
        _halfBits = 1;
        while (1UL << (2 * _halfBits) < _count)
        {
            _halfBits++;
        }
        _halfMask = (1UL << _halfBits) - 1;
    }

    public Id32 IdOf(long chunk) => IdOf(chunk, RankOf(chunk));

    /// <param name="chunk">Its number.</param>
    /// <param name="rank">Its place among all ids.</param>
    public Id32 IdOf(long chunk, long rank)
    {
        var first = (ulong)(((UInt128)(ulong)rank << 64) / _count);
        return new Id32(new UInt128(first, Chance(chunk, 1)), new UInt128(Chance(chunk, 2), Chance(chunk, 3)));
    }

    public long RankOf(long chunk)
    {
        var value = (ulong)chunk;
        do
        {
            var (left, right) = (value >> _halfBits, value & _halfMask);
            for (var round = 0; round < Rounds; round++)
            {
                (left, right) = (right, left ^ Round(right, round));
            }
            value = (left << _halfBits) | right;
        }
        while (value >= _count);
        return (long)value;
    }

    public long ChunkAt(long rank)
    {
        var value = (ulong)rank;
        do
        {
            var (left, right) = (value >> _halfBits, value & _halfMask);
            for (var round = Rounds - 1; round >= 0; round--)
            {
                (left, right) = (right ^ Round(left, round), left);
            }
            value = (left << _halfBits) | right;
        }
        while (value >= _count);
        return (long)value;
    }

    /// <summary>64 bits for one purpose of one thing, the same in every run of a seed.</summary>
    public ulong Chance(long thing, ulong purpose) => Mix(_seed + ((ulong)thing * 0x9E3779B97F4A7C15) + (purpose << 56));

    private ulong Round(ulong half, int round) => Mix(_seed ^ (half + ((ulong)(round + 1) << 40))) & _halfMask;

    /// <summary>The finaliser of SplitMix64.</summary>
    private static ulong Mix(ulong value)
    {
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
        return value ^ (value >> 31);
    }
}
