using VirtBackup.Catalog.Migrations;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Controller.Migrations;

/// <summary>
/// For how long a machine stands still when it moves: the time to stop, what the last increment takes, the time to start, and what lies
/// between, learned from migrations on the same path.
/// </summary>
internal static class DowntimeEstimates
{
    /// <summary>Migrations that are looked at.</summary>
    public const int CountMax = 50;

    // What is said before anything was learned, seconds: a guest that shuts down, and orders that pass through the controller.
    private const double StopFirst = 10, StartFirst = 5, RestFirst = 4, DoubtFirst = 3;

    /// <param name="history">Those of the same path that succeeded, newest first.</param>
    /// <param name="lastBytes">Of the increment behind the stop.</param>
    /// <param name="bytesPerSecond">Of that path; 0: unknown.</param>
    public static InterruptionEstimate Make(IReadOnlyList<MigrationRow> history, long lastBytes, double bytesPerSecond)
    {
        ArgumentNullException.ThrowIfNull(history);
        var copying = bytesPerSecond > 0 ? lastBytes / bytesPerSecond : 0;
        if (history.Count == 0)
        {
            var first = StopFirst + StartFirst + RestFirst + copying;
            return new InterruptionEstimate { P50Seconds = first, P90Seconds = first * DoubtFirst, Record = new EstimateRecord() };
        }
        // Whatever copying does not explain is what stopping, starting and the orders between take.
        var rests = history.Select(row => Math.Max(0, row.DowntimeSeconds - (bytesPerSecond > 0 ? row.LastBytes / bytesPerSecond : 0))).Order().ToArray();
        // Few migrations do not show the slowest tenth.
        var doubt = 1 + (1.0 / history.Count);
        return new InterruptionEstimate
        {
            P50Seconds = Quantile(rests, 0.5) + copying,
            P90Seconds = (Quantile(rests, 0.9) + copying) * doubt,
            JudgedBy = (uint)history.Count,
            Record = RecordOf(history),
        };
    }

    private static EstimateRecord RecordOf(IReadOnlyList<MigrationRow> history)
    {
        var scored = history.Where(static row => row.PredictedP50Seconds > 0).ToArray();
        return new EstimateRecord
        {
            Scored = (uint)scored.Length,
            WithinP50 = (uint)scored.Count(static row => row.DowntimeSeconds <= row.PredictedP50Seconds),
            WithinP90 = (uint)scored.Count(static row => row.DowntimeSeconds <= row.PredictedP90Seconds),
            MedianError = scored.Length == 0 ? 0 : Quantile([.. scored.Select(static row => Math.Abs(row.DowntimeSeconds - row.PredictedP50Seconds) / row.PredictedP50Seconds).Order()], 0.5),
        };
    }

    // Linear between the two values around it.
    private static double Quantile(double[] sorted, double share)
    {
        var at = share * (sorted.Length - 1);
        var below = (int)at;
        return below + 1 >= sorted.Length ? sorted[^1] : sorted[below] + ((at - below) * (sorted[below + 1] - sorted[below]));
    }
}
