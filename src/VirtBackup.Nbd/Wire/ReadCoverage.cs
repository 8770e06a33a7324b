namespace VirtBackup.Nbd.Wire;

/// <summary>
/// Which bytes of one read have arrived: refuses what overlaps. Chunks in order, as servers send them, cost one comparison;
/// the number of separate runs is bounded, so that no server can make it grow.
/// </summary>
internal sealed class ReadCoverage
{
    /// <summary>Separate runs that may be waiting for the gaps between them.</summary>
    public const int RunsMax = 1024;

    // Sorted, disjoint, not touching.
    private readonly List<(int Start, int End)> _runs = [];

    public void Clear() => _runs.Clear();

    /// <summary>True when exactly the bytes from 0 to <paramref name="length"/> have arrived.</summary>
    public bool IsComplete(int length) => _runs.Count == 1 && _runs[0] == (0, length);

    /// <summary>Adds the run; false when it overlaps an earlier one or when there are too many runs.</summary>
    public bool TryAdd(int start, int length)
    {
        var end = start + length;
        var next = _runs.Count;
        if (next > 0 && start < _runs[^1].End)
        {
            next = FirstEndingBehind(start);
            if (_runs[next].Start < end)
            {
                return false;
            }
        }
        var joinsPrevious = next > 0 && _runs[next - 1].End == start;
        var joinsNext = next < _runs.Count && _runs[next].Start == end;
        switch (joinsPrevious, joinsNext)
        {
            case (true, true):
                _runs[next - 1] = (_runs[next - 1].Start, _runs[next].End);
                _runs.RemoveAt(next);
                return true;
            case (true, false):
                _runs[next - 1] = (_runs[next - 1].Start, end);
                return true;
            case (false, true):
                _runs[next] = (start, _runs[next].End);
                return true;
            default:
                if (_runs.Count == RunsMax)
                {
                    return false;
                }
                _runs.Insert(next, (start, end));
                return true;
        }
    }

    private int FirstEndingBehind(int start)
    {
        int low = 0, high = _runs.Count - 1;
        while (low < high)
        {
            var middle = (low + high) / 2;
            if (_runs[middle].End > start)
            {
                high = middle;
            }
            else
            {
                low = middle + 1;
            }
        }
        return low;
    }
}
