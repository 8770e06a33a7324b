using VirtBackup.Core;

namespace VirtBackup.Hypervisors.State;

/// <summary>Pages that follow each other both in memory and in the saved stream.</summary>
/// <param name="Page">Number of the first in the memory stream.</param>
/// <param name="Offset">Of its bytes in the saved stream.</param>
internal readonly record struct PageRun(long Page, long Offset, int Count)
{
    public long End => Page + Count;
}

/// <summary>
/// Where the pages of a memory stream lie in a saved stream that holds them in the order in which they were written. Takes memory by
/// the number of breaks in that order, and one bit for each page.
/// </summary>
/// <param name="stride">From one page's bytes to the next one's where pages follow each other.</param>
internal sealed class PageIndex(int stride)
{
    private const int PagesOfGroup = 4096;
    private const int RewrittenMax = 4 << 20;
    private readonly Dictionary<long, ulong[]> seen = [];
    private readonly Dictionary<long, long> rewritten = [];
    private PageRun[] runs = [];
    private List<PageRun> adding = [];

    /// <summary>Ascending, not overlapping; complete behind <see cref="Finish"/>.</summary>
    public IReadOnlyList<PageRun> Runs => runs;

    /// <summary>A page's bytes are in the stream. The last word about a page counts.</summary>
    public void Add(long page, long offset)
    {
        if (!TrySee(page))
        {
            Rewrite(page, offset);
        }
        else if (adding.Count > 0 && adding[^1] is var last && last.End == page && last.Offset + ((long)last.Count * stride) == offset && last.Count < int.MaxValue)
        {
            adding[^1] = last with { Count = last.Count + 1 };
        }
        else
        {
            adding.Add(new PageRun(page, offset, 1));
        }
    }

    /// <summary>A page holds zeros.</summary>
    public void AddZeros(long page)
    {
        if (!TrySee(page))
        {
            Rewrite(page, -1);
        }
    }

    public void Finish()
    {
        var all = rewritten.Count == 0 ? adding : [.. adding.SelectMany(Split), .. rewritten.Where(page => page.Value >= 0).Select(page => new PageRun(page.Key, page.Value, 1))];
        all.Sort(static (a, b) => a.Page.CompareTo(b.Page));
        runs = [.. all];
        adding = [];
        seen.Clear();
        rewritten.Clear();
    }

    /// <summary>The number of the first run that ends behind a page; that of all runs if there is none.</summary>
    public int FindFirst(long page)
    {
        var (low, high) = (0, runs.Length);
        while (low < high)
        {
            var middle = (low + high) / 2;
            (low, high) = runs[middle].End > page ? (low, middle) : (middle + 1, high);
        }
        return low;
    }

    private IEnumerable<PageRun> Split(PageRun run)
    {
        var start = 0;
        for (var i = 0; i <= run.Count; i++)
        {
            if (i < run.Count && !rewritten.ContainsKey(run.Page + i))
            {
                continue;
            }
            if (i > start)
            {
                yield return new PageRun(run.Page + start, run.Offset + ((long)start * stride), i - start);
            }
            start = i + 1;
        }
    }

    private bool TrySee(long page)
    {
        var (group, index) = (page / PagesOfGroup, (int)(page % PagesOfGroup));
        if (!seen.TryGetValue(group, out var bits))
        {
            seen.Add(group, bits = new ulong[PagesOfGroup / 64]);
        }
        var bit = 1UL << (index % 64);
        var isNew = (bits[index / 64] & bit) == 0;
        bits[index / 64] |= bit;
        return isNew;
    }

    private void Rewrite(long page, long offset)
    {
        rewritten[page] = offset;
        if (rewritten.Count > RewrittenMax)
        {
            throw FaultException.Malformed($"The saved state has more than {RewrittenMax} pages twice: it was not saved at one instant.");
        }
    }
}
