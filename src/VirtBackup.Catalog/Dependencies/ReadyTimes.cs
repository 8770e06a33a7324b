namespace VirtBackup.Catalog.Dependencies;

/// <summary>How long machines take to become ready, judged by former starts. Seconds.</summary>
public static class ReadyTimes
{
    /// <summary>The newest starts that count.</summary>
    public const int CountMax = 20;

    /// <summary>Assumed where nothing was ever started: the usual boot of a server.</summary>
    private const double UnknownSeconds = 30;

    /// <summary>P90 to P50 of boots of which too few are known to tell.</summary>
    private const double PriorRatio = 2;

    private const int EnoughToTell = 10;

    /// <param name="own">Of the machine itself with the same probe, newest first.</param>
    /// <param name="others">Of other machines of the host, for one without starts of its own.</param>
    public static (double P50, double P90) Foretell(IReadOnlyList<double> own, IReadOnlyList<double> others)
    {
        ArgumentNullException.ThrowIfNull(own);
        ArgumentNullException.ThrowIfNull(others);
        var known = (own.Count > 0 ? own : others).Take(CountMax).Order().ToArray();
        if (known.Length == 0)
        {
            return (UnknownSeconds, UnknownSeconds * PriorRatio);
        }
        var middle = known[known.Length / 2];
        return (middle, known.Length >= EnoughToTell ? known[Math.Min(known.Length - 1, (int)Math.Ceiling(0.9 * (known.Length + 1)) - 1)] : Math.Max(known[^1], middle * PriorRatio));
    }
}
