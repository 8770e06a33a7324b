namespace VirtBackup.Proofs.CrashSimulation;

/// <summary>What was done and where power was lost, by stage. Adds up over trials.</summary>
internal sealed class Coverage
{
    private const char Separator = ' ';

    private readonly SortedDictionary<string, long> _counts = new(StringComparer.Ordinal);

    public void Count(string what, long count = 1) => _counts[what] = _counts.GetValueOrDefault(what) + count;

    public void Operation(string stage) => Count($"operations:{stage}");

    public void Crash(string stage) => Count($"crashes:{stage}");

    public long this[string what] => _counts.GetValueOrDefault(what);

    public void Add(Coverage other)
    {
        foreach (var (what, count) in other._counts)
        {
            Count(what, count);
        }
    }

    /// <summary>The sum of all counts whose name begins so.</summary>
    public long Sum(string prefix) => _counts.Where(count => count.Key.StartsWith(prefix, StringComparison.Ordinal)).Sum(count => count.Value);

    /// <summary>Names behind a prefix, and their counts.</summary>
    public IEnumerable<(string Name, long Count)> Under(string prefix) =>
        _counts.Where(count => count.Key.StartsWith(prefix, StringComparison.Ordinal)).Select(count => (count.Key[prefix.Length..], count.Value));

    /// <summary>One line.</summary>
    public override string ToString() => string.Join(Separator, _counts.Select(count => $"{count.Key}={count.Value}"));

    public static Coverage Parse(string line)
    {
        var coverage = new Coverage();
        foreach (var part in line.Split(Separator, StringSplitOptions.RemoveEmptyEntries))
        {
            var equals = part.LastIndexOf('=');
            coverage.Count(part[..equals], long.Parse(part[(equals + 1)..]));
        }
        return coverage;
    }
}
