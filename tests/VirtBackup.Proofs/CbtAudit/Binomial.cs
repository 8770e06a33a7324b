namespace VirtBackup.Proofs.CbtAudit;

/// <summary>The binomial distribution.</summary>
internal static class Binomial
{
    private const double Outside = 0.005;

    /// <summary>The counts of hits among <paramref name="trials"/> of probability <paramref name="p"/> between which 99 % lie: less than half a percent lies on either side.</summary>
    public static (int Low, int High) Interval99(int trials, double p)
    {
        var below = 0.0;
        var low = 0;
        for (; low < trials && below + Of(trials, low, p) <= Outside; low++)
        {
            below += Of(trials, low, p);
        }
        var above = 0.0;
        var high = trials;
        for (; high > low && above + Of(trials, high, p) <= Outside; high--)
        {
            above += Of(trials, high, p);
        }
        return (low, high);
    }

    private static double Of(int trials, int hits, double p)
    {
        if (p is <= 0 or >= 1)
        {
            return hits == (p <= 0 ? 0 : trials) ? 1 : 0;
        }
        var log = (hits * Math.Log(p)) + ((trials - hits) * Math.Log(1 - p));
        for (var i = 0; i < hits; i++)
        {
            log += Math.Log(trials - i) - Math.Log(i + 1);
        }
        return Math.Exp(log);
    }
}
