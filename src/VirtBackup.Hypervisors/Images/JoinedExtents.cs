using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Images;

/// <summary>
/// Ascending extents, at most so many: when there are more, those with the smallest gaps between them are joined. What is
/// added is always covered. Not safe for concurrent use.
/// </summary>
/// <param name="countMax">At least 2.</param>
internal sealed class JoinedExtents(int countMax)
{
    private List<ByteRange> _extents = [];
    private long _gap;

    /// <param name="extent">Does not begin before the end of the last one.</param>
    public void Add(ByteRange extent)
    {
        Check.That(_extents.Count == 0 || extent.Offset >= _extents[^1].End);
        AddJoined(_extents, extent);
        while (_extents.Count > countMax)
        {
            _gap = Math.Max(64 << 10, _gap * 2);
            var joined = new List<ByteRange>(countMax);
            foreach (var old in _extents)
            {
                AddJoined(joined, old);
            }
            _extents = joined;
        }
    }

    public IReadOnlyList<ByteRange> ToList() => _extents;

    private void AddJoined(List<ByteRange> extents, ByteRange extent)
    {
        if (extents.Count > 0 && extent.Offset - extents[^1].End <= _gap)
        {
            extents[^1] = new ByteRange(extents[^1].Offset, extent.End - extents[^1].Offset);
        }
        else
        {
            extents.Add(extent);
        }
    }
}
