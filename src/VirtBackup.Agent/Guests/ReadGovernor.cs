namespace VirtBackup.Agent.Guests;

/// <summary>
/// Decides how fast a backup may read, from how the guest's writes fare: halves when they are too slow, and goes up in small
/// steps when they have been well within the budget for a while. Knows no clock; not safe for concurrent use.
/// </summary>
/// <param name="budget">The bounds.</param>
/// <param name="baseline">The mean of a write before the cut; null: unknown, since the guest hardly wrote.</param>
internal sealed class ReadGovernor(ImpactBudget budget, TimeSpan? baseline)
{
    /// <summary>Operations below which a mean says nothing: they are judged together with the next ones.</summary>
    private const long OperationsMin = 4;
    private const int BadInARow = 2;
    private const int GoodInARow = 3;
    /// <summary>Between this share of the budget and the whole of it nothing changes.</summary>
    private const double GoodShare = 0.8;
    /// <summary>So far beyond the budget one judgement is enough.</summary>
    private const double FarBeyond = 3;
    private const double StepUp = 1.25;
    /// <summary>A limit so far above what is really read holds nothing back.</summary>
    private const double FreeFactor = 2;

    /// <summary>For a guest whose idle latency nobody has seen: that of a busy hard disk.</summary>
    private static readonly TimeSpan AssumedBaseline = TimeSpan.FromMilliseconds(5);

    private long _operations, _totalNs;
    private int _bad, _good;
    private double _fastest;

    /// <summary>What a mean may be.</summary>
    public TimeSpan Allowed { get; } = TimeSpan.FromTicks(Math.Max(budget.Free.Ticks, (long)((baseline ?? AssumedBaseline).Ticks * budget.FactorMax)));

    /// <summary>Bytes per second; 0: no limit.</summary>
    public long BytesPerSecondMax { get; private set; }

    /// <summary>Takes what an interval brought.</summary>
    /// <param name="operations">Writes and flushes of the guest that ended in it.</param>
    /// <param name="totalNs">Time that they took together.</param>
    /// <param name="bytesPerSecond">What the backup read.</param>
    public void Judge(long operations, long totalNs, double bytesPerSecond)
    {
        _fastest = Math.Max(_fastest, bytesPerSecond);
        _operations += operations;
        _totalNs += totalNs;
        if (_operations is > 0 and < OperationsMin && operations > 0)
        {
            return;
        }
        var share = _operations == 0 ? 0 : _totalNs / (double)_operations / (Allowed.TotalMicroseconds * 1000);
        (_operations, _totalNs) = (0, 0);
        _bad = share > 1 ? _bad + 1 : 0;
        _good = share < GoodShare ? _good + 1 : 0;
        if (_bad >= BadInARow || share > FarBeyond)
        {
            _bad = 0;
            var now = BytesPerSecondMax > 0 ? BytesPerSecondMax : bytesPerSecond;
            BytesPerSecondMax = Math.Max(budget.ReadBytesPerSecondMin, (long)(now / 2));
        }
        else if (_good >= GoodInARow && BytesPerSecondMax > 0)
        {
            _good = 0;
            var next = BytesPerSecondMax * StepUp;
            BytesPerSecondMax = next > _fastest * FreeFactor ? 0 : (long)next;
        }
    }
}
