using System.Runtime.InteropServices;

namespace VirtBackup.Proofs.ConstantMemory;

/// <summary>A part of a disk, in bytes.</summary>
internal readonly record struct Extent(long Offset, long Length)
{
    public long End => Offset + Length;
}

/// <summary>
/// What a disk holds, from a seed alone: extents of 64 KiB to 16 MiB at chance places on page boundaries, every page
/// unlike any other and half compressible, and zeros elsewhere. Safe for concurrent use.
/// </summary>
internal sealed class DiskContent
{
    public const int PageBytes = 4096;
    private const int SmallestExtent = 64 << 10;
    private const int ExtentDoublings = 9;
    private const ulong Golden = 0x9E3779B97F4A7C15;
    private readonly ulong _seed;

    public DiskContent(ulong seed, int trial, DiskSize size)
    {
        Size = size;
        _seed = Mix(Mix(seed) + (ulong)trial) ^ Mix((ulong)size.DiskBytes + size.Name[0]);
        Extents = Place();
    }

    public DiskSize Size { get; }

    /// <summary>Where the disk is not zero, in order.</summary>
    public IReadOnlyList<Extent> Extents { get; }

    /// <summary>The content of whole pages inside an extent.</summary>
    public void Fill(long offset, Span<byte> pages)
    {
        for (var at = 0; at < pages.Length; at += PageBytes)
        {
            var words = MemoryMarshal.Cast<byte, ulong>(pages.Slice(at, PageBytes));
            var state = Mix(_seed + (ulong)((offset + at) / PageBytes) * Golden);
            words[(words.Length / 2)..].Fill(state | 1);
            foreach (ref var word in words[..(words.Length / 2)]) word = Mix(state += Golden);
        }
    }

    private List<Extent> Place()
    {
        var state = _seed;
        ulong Below(ulong bound) => Mix(state += Golden) % bound;

        var lengths = new List<long>();
        for (var left = Size.ContentBytes; left > 0; left -= lengths[^1])
        {
            lengths.Add(Math.Min(left, (long)SmallestExtent << (int)Below(ExtentDoublings)));
        }
        var weights = Enumerable.Range(0, lengths.Count + 1).Select(_ => 1 + Below(1 << 20)).ToArray();
        var weight = weights.Aggregate((sum, next) => sum + next);
        var zeroPages = (ulong)(Size.DiskBytes - Size.ContentBytes) / PageBytes;
        var extents = new List<Extent>(lengths.Count);
        var offset = 0L;
        foreach (var (i, length) in lengths.Index())
        {
            offset += (long)(zeroPages * weights[i] / weight) * PageBytes;
            extents.Add(new Extent(offset, length));
            offset += length;
        }
        return extents;
    }

    // SplitMix64
    private static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
