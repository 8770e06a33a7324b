using VirtBackup.Core;

namespace VirtBackup.Agent.Restore.InPlace;

/// <summary>Ascending extents that do not overlap, for asking what they touch. Immutable.</summary>
internal sealed class SortedExtents
{
    private readonly IReadOnlyList<ByteRange> _extents;

    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>: they are not ascending.</exception>
    public SortedExtents(IReadOnlyList<ByteRange> extents)
    {
        for (var i = 0; i < extents.Count; i++)
        {
            if (extents[i].Length <= 0 || extents[i].Offset < (i == 0 ? 0 : extents[i - 1].End))
            {
                throw FaultException.Malformed("The changed extents of a disk are not ascending.");
            }
        }
        _extents = extents;
    }

    public bool Touches(ByteRange range) => FirstFrom(range.Offset) is var first && first < _extents.Count && _extents[first].Offset < range.End;

    /// <summary>The parts of <paramref name="range"/> that they cover, ascending.</summary>
    public IEnumerable<ByteRange> Within(ByteRange range)
    {
        for (var i = FirstFrom(range.Offset); i < _extents.Count && _extents[i].Offset < range.End; i++)
        {
            var start = Math.Max(_extents[i].Offset, range.Offset);
            yield return new ByteRange(start, Math.Min(_extents[i].End, range.End) - start);
        }
    }

    // The first extent that ends behind the offset.
    private int FirstFrom(long offset)
    {
        var (low, high) = (0, _extents.Count);
        while (low < high)
        {
            var middle = (low + high) / 2;
            (low, high) = _extents[middle].End > offset ? (low, middle) : (middle + 1, high);
        }
        return low;
    }
}
