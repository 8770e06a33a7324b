using VirtBackup.Core;

namespace VirtBackup.Testing.Platforms;

/// <summary>Disks in memory are tracked in blocks of <see cref="Bytes"/>.</summary>
public static class ByteBlocks
{
    public const int Bytes = 16 << 10;

    public static int CountOf(long length) => (int)((length + Bytes - 1) / Bytes);

    /// <summary>The blocks that a write touches.</summary>
    public static IEnumerable<int> Touched(long offset, int length)
    {
        for (var block = (int)(offset / Bytes); (long)block * Bytes < offset + length; block++)
        {
            yield return block;
        }
    }

    /// <summary>
    /// The first ranges, at most <paramref name="max"/>, of the blocks in [start, end) that are wanted, and how far that describes
    /// the disk: up to <paramref name="end"/>, or to the end of the last range.
    /// </summary>
    public static (List<ByteRange> Ranges, long DescribedTo) Page(long start, long end, long length, int max, Func<int, bool> wanted)
    {
        ArgumentNullException.ThrowIfNull(wanted);
        var ranges = new List<ByteRange>();
        for (var at = start; at < end;)
        {
            var block = (int)(at / Bytes);
            var next = Math.Min(Math.Min(((long)block + 1) * Bytes, end), length);
            if (wanted(block))
            {
                if (ranges.Count > 0 && ranges[^1].End == at)
                {
                    ranges[^1] = ranges[^1] with { Length = next - ranges[^1].Offset };
                }
                else if (ranges.Count == max)
                {
                    return (ranges, ranges[^1].End);
                }
                else
                {
                    ranges.Add(new ByteRange(at, next - at));
                }
            }
            at = next;
        }
        return (ranges, end);
    }
}
