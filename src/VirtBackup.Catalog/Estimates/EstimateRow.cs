using VirtBackup.Core;

namespace VirtBackup.Catalog.Estimates;

/// <summary>What was said about a restore before it, and what became of it. Times are Unix milliseconds.</summary>
public sealed record EstimateRow
{
    public required Id16 JobId { get; init; }

    public required Id16 PointId { get; init; }

    /// <summary>The agent, and where and how it writes: restores of one path are judged by each other.</summary>
    public required string Path { get; init; }

    public required long MadeMs { get; init; }

    /// <summary>To be written.</summary>
    public required long DataBytes { get; init; }

    /// <summary>Of the same agent side by side, this one included.</summary>
    public required int Jobs { get; init; }

    /// <summary>Of the measurement just before it; 0: there was none.</summary>
    public long SampleBytes { get; init; }

    /// <summary>Of the records of its chunks.</summary>
    public long SampleWireBytes { get; init; }

    public double SampleSeconds { get; init; }

    public RestoreConditions Conditions => new(DataBytes, SampleBytes > 0 ? SampleSeconds / SampleBytes : 0, Jobs);

    public required double P50Seconds { get; init; }

    public required double P90Seconds { get; init; }

    /// <summary>How many restores the estimate was judged by.</summary>
    public int JudgedBy { get; init; }

    /// <summary>What it took; null: not over.</summary>
    public double? ActualSeconds { get; init; }

    /// <summary>What crossed the network, bytes; 0 before the end.</summary>
    public long WireBytes { get; init; }

    public bool IsWithinP50 => ActualSeconds <= P50Seconds;

    public bool IsWithinP90 => ActualSeconds <= P90Seconds;
}

/// <summary>How a path's last estimates turned out.</summary>
/// <param name="Scored">How many, at most <see cref="CountMax"/>.</param>
/// <param name="MedianError">Of the P50: half of the restores were nearer to it than this share of it.</param>
public readonly record struct EstimateRecord(int Scored, int WithinP50, int WithinP90, double MedianError)
{
    public const int CountMax = 50;

    /// <param name="rows">Restores that are over, newest first.</param>
    public static EstimateRecord Of(IEnumerable<EstimateRow> rows)
    {
        var last = rows.Where(static row => row.ActualSeconds is not null).Take(CountMax).ToArray();
        var errors = last.Select(static row => Math.Abs((row.ActualSeconds!.Value / row.P50Seconds) - 1)).Order().ToArray();
        return new EstimateRecord(
            last.Length, last.Count(static row => row.IsWithinP50), last.Count(static row => row.IsWithinP90), errors.Length > 0 ? errors[errors.Length / 2] : 0);
    }
}
