namespace VirtBackup.Catalog.Signals;

/// <summary>
/// Tells runs that look like an encrypted or overwritten machine from usual ones, by two numbers that a backup yields anyway:
/// how much of the machine is new, and how well that compresses. Pure.
/// </summary>
public static class RunJudge
{
    /// <summary>Shares are in millionths.</summary>
    public const int Whole = 1_000_000;

    /// <summary>A run is judged by so many before it at least.</summary>
    public const int RunsMin = 5;

    /// <summary>A run is judged by so many before it at most, the newest ones.</summary>
    public const int RunsMax = 30;

    /// <summary>With less a run is usual, bytes: so much a system or a copied film brings at once.</summary>
    public const long NewBytesMin = 4L << 30;

    /// <summary>The same for small machines: a share.</summary>
    public const int NewShareMin = Whole / 20;

    /// <summary>Less new data says nothing on how well a machine's data compresses, bytes.</summary>
    public const long SampleBytesMin = 64 << 10;

    private const int SamplesMin = 3;
    private const int Encrypted = Whole / 10 * 9;
    private const int HardlyCompressed = Whole / 100 * 15;
    private const int LessCompressed = Whole / 5;
    private const int Much = Whole / 10;
    private const int MostAtOnce = Whole / 2;

    /// <param name="run">With <see cref="RunRow.IsComparable"/>.</param>
    /// <param name="earlier">Finished runs of the same machine; which of them count is decided here.</param>
    public static RunJudgement Judge(RunRow run, IEnumerable<RunRow> earlier)
    {
        ArgumentNullException.ThrowIfNull(run);
        var usual = earlier.Where(static row => row.IsComparable && row.Verdict != RunVerdict.Abnormal).OrderByDescending(static row => row.EndedMs).Take(RunsMax).ToList();
        var shares = usual.ConvertAll(static row => row.NewShare);
        var samples = usual.FindAll(static row => row.NewBytes >= SampleBytesMin).ConvertAll(static row => row.StoredShare);
        var (usualNew, usualStored) = (Median(shares), samples.Count < SamplesMin ? 0 : Median(samples));
        if (!run.IsComparable || usual.Count < RunsMin)
        {
            return new RunJudgement(RunVerdict.Learning, usualNew, usualStored);
        }
        // Where too little was measured, half is what disks of systems compress to.
        var compresses = samples.Count < SamplesMin ? Whole / 2 : usualStored;
        var isMuch = run.NewShare >= NewShareMin || run.NewBytes - run.GrownBytes >= NewBytesMin;
        // What does not compress counts more: a machine that always changes much is judged by that.
        var isMoreStored = IsMore(Weigh(run), usual.ConvertAll(Weigh));
        var isAbnormal = isMuch
            && ((isMoreStored && run.StoredShare >= Math.Max(Encrypted, compresses + HardlyCompressed))
                || (isMoreStored && run.NewShare >= Much && run.StoredShare >= compresses + LessCompressed)
                || (run.NewShare >= MostAtOnce && IsMore(run.NewShare, shares)));
        return new RunJudgement(isAbnormal ? RunVerdict.Abnormal : RunVerdict.Usual, usualNew, usualStored);
    }

    /// <summary>What is stored of the new data, as a share of the machine.</summary>
    private static int Weigh(RunRow run) => (int)((double)run.NewShare * Math.Min(run.StoredShare, Whole) / Whole);

    /// <summary>Four times the usual, and six standard deviations of a bell curve away from a median that outliers do not move.</summary>
    private static bool IsMore(int value, List<int> usual)
    {
        var median = Median(usual);
        return value > Math.Max(4.0 * median, median + (6 * 1.4826 * Median(usual.ConvertAll(one => Math.Abs(one - median)))));
    }

    private static int Median(List<int> values)
    {
        if (values.Count == 0)
        {
            return 0;
        }
        var sorted = values.Order().ToList();
        var middle = sorted.Count / 2;
        return sorted.Count % 2 == 1 ? sorted[middle] : (int)(((long)sorted[middle - 1] + sorted[middle]) / 2);
    }
}
