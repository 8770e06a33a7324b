using VirtBackup.Core;

namespace VirtBackup.Catalog.Retention;

/// <summary>
/// Applies rules to the points of one machine. Pure: the same points, rules and time give the same verdicts. More rules
/// never let more points go, and what is left after the expired points went stays. Whatever the rules say, these stay: the
/// newest point, the newest verified one, points that are held, locked, in use, or dated in the future. Time itself ends
/// locks and nothing else: a machine that is no longer backed up keeps its points.
/// </summary>
public static class RetentionEvaluation
{
    private const long HourMs = 3_600_000;
    private const long DayMs = 24 * HourMs;

    /// <summary>9999-12-31, where calendars end.</summary>
    private const long TimeMsMax = 253_402_300_799_999;

    private static readonly KeepCause[] Counting = [KeepCause.Last, KeepCause.Hourly, KeepCause.Daily, KeepCause.Weekly, KeepCause.Monthly, KeepCause.Yearly];

    /// <summary>Newest first; ids order points of the same millisecond.</summary>
    public static IComparer<RetentionPoint> NewestFirst { get; } = Comparer<RetentionPoint>.Create(
        static (left, right) => left.TimeMs != right.TimeMs ? right.TimeMs.CompareTo(left.TimeMs) : right.Id.CompareTo(left.Id));

    /// <param name="rules">What to keep.</param>
    /// <param name="points">All points of one machine, in any order.</param>
    /// <param name="nowMs">Unix milliseconds.</param>
    /// <returns>A verdict for each point, newest first.</returns>
    public static IReadOnlyList<RetentionVerdict> Run(RetentionRules rules, IEnumerable<RetentionPoint> points, long nowMs)
    {
        ArgumentNullException.ThrowIfNull(rules);
        var sorted = points.Order(NewestFirst).ToArray();
        var causes = new int[sorted.Length];
        Mark(rules, sorted, nowMs, causes);
        var places = new int[Counting.Length];
        var verdicts = new RetentionVerdict[sorted.Length];
        for (var i = 0; i < sorted.Length; i++)
        {
            verdicts[i] = new RetentionVerdict(sorted[i], ReasonsOf(rules, causes[i], places));
        }
        return verdicts;
    }

    /// <summary>Sets the causes that keep each point, one bit each; 0: it expires.</summary>
    /// <param name="sorted">By <see cref="NewestFirst"/>.</param>
    /// <param name="causes">As many as there are points.</param>
    internal static void Mark(RetentionRules rules, ReadOnlySpan<RetentionPoint> sorted, long nowMs, Span<int> causes)
    {
        Check.That(causes.Length == sorted.Length);
        var present = 0;
        for (; present < sorted.Length && sorted[present].TimeMs > nowMs; present++)
        {
            causes[present] = BitOf(KeepCause.Future) | OwnCauses(sorted[present], nowMs);
        }
        var verified = false;
        for (var i = present; i < sorted.Length; i++)
        {
            causes[i] = OwnCauses(sorted[i], nowMs) | (i == present ? BitOf(KeepCause.Latest) : 0);
            if (rules.IsEmpty)
            {
                causes[i] |= BitOf(KeepCause.Everything);
            }
            if (!verified && sorted[i].IsVerified)
            {
                verified = true;
                causes[i] |= BitOf(KeepCause.LastVerified);
            }
            if (rules.WithinHours > 0 && sorted[present].TimeMs - sorted[i].TimeMs < rules.WithinHours * HourMs)
            {
                causes[i] |= BitOf(KeepCause.Within);
            }
        }
        foreach (var rule in Counting)
        {
            MarkNewest(rule, CountOf(rules, rule), sorted[present..], causes[present..]);
        }
    }

    private static void MarkNewest(KeepCause rule, int count, ReadOnlySpan<RetentionPoint> sorted, Span<int> causes)
    {
        var (last, left) = (0L, count);
        for (var i = 0; i < sorted.Length && left > 0; i++)
        {
            var bucket = rule == KeepCause.Last ? i : BucketOf(rule, sorted[i].TimeMs);
            if (left == count || bucket != last)
            {
                causes[i] |= BitOf(rule);
                (last, left) = (bucket, left - 1);
            }
        }
    }

    /// <summary>A number of the hour, day, ISO week, month or year, all UTC; equal within, different outside.</summary>
    private static long BucketOf(KeepCause rule, long timeMs)
    {
        timeMs = Math.Clamp(timeMs, 0, TimeMsMax);
        switch (rule)
        {
            case KeepCause.Hourly:
                return timeMs / HourMs;
            case KeepCause.Daily:
                return timeMs / DayMs;
            case KeepCause.Weekly:
                // Weeks begin on Monday; 1970-01-01 was a Thursday.
                return ((timeMs / DayMs) + 3) / 7;
            default:
                var date = DateTimeOffset.FromUnixTimeMilliseconds(timeMs);
                return rule == KeepCause.Monthly ? (date.Year * 12L) + date.Month : date.Year;
        }
    }

    private static int OwnCauses(in RetentionPoint point, long nowMs) =>
        (point.IsHeld ? BitOf(KeepCause.Held) : 0)
        | (point.LockedUntilMs > nowMs ? BitOf(KeepCause.Locked) : 0)
        | (point.IsInUse ? BitOf(KeepCause.InUse) : 0);

    private static List<KeepReason> ReasonsOf(RetentionRules rules, int causes, int[] places)
    {
        var reasons = new List<KeepReason>();
        foreach (var cause in Enum.GetValues<KeepCause>())
        {
            if ((causes & BitOf(cause)) != 0)
            {
                var counts = CountOf(rules, cause);
                reasons.Add(counts == 0 ? new KeepReason(cause) : new KeepReason(cause, ++places[(int)cause], counts));
            }
        }
        return reasons;
    }

    private static int CountOf(RetentionRules rules, KeepCause cause) => cause switch
    {
        KeepCause.Last => rules.Last,
        KeepCause.Hourly => rules.Hourly,
        KeepCause.Daily => rules.Daily,
        KeepCause.Weekly => rules.Weekly,
        KeepCause.Monthly => rules.Monthly,
        KeepCause.Yearly => rules.Yearly,
        _ => 0,
    };

    private static int BitOf(KeepCause cause) => 1 << (int)cause;
}
