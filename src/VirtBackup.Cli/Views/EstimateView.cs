using VirtBackup.Cli.Output;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Cli.Views;

/// <summary>How long a restore takes, and why that is believed.</summary>
/// <param name="OtherJobs">Of the same agent, side by side.</param>
/// <param name="ActualSeconds">Null: not over.</param>
internal sealed record EstimateView(
    double P50Seconds, double P90Seconds, ulong DataBytes, ulong? WireBytes, string Path, uint JudgedBy, double? SampleBytesPerSecond, uint OtherJobs, EstimateRecordView Record,
    double? ActualSeconds)
{
    public static EstimateView? Of(RestoreEstimate? estimate) => estimate is null ? null : new(
        estimate.P50Seconds, estimate.P90Seconds, estimate.DataBytes, estimate.WireBytes > 0 ? estimate.WireBytes : null, estimate.Path, estimate.JudgedBy,
        estimate.SampleBytesPerSecond > 0 ? estimate.SampleBytesPerSecond : null, estimate.OtherJobs,
        EstimateRecordView.Of(estimate.Record),
        estimate.ActualSeconds > 0 ? estimate.ActualSeconds : null);

    /// <summary>Both times, short.</summary>
    public string Span() => $"{Shown(P50Seconds)} to {Shown(P90Seconds)}";

    /// <summary>What it was judged by, for people.</summary>
    public string Basis()
    {
        var measured = SampleBytesPerSecond is { } rate ? $"a measurement just before ({Units.Rate(rate)})" : "no measurement";
        var beside = OtherJobs switch
        {
            0 => "",
            1 => "; one other job of this agent runs",
            _ => $"; {OtherJobs} other jobs of this agent run",
        };
        return JudgedBy switch
        {
            0 => $"{measured} alone, because nothing was restored on this path before: the times lie wide apart{beside}",
            1 => $"one restore on this path and {measured}{beside}",
            _ => $"{JudgedBy} restores on this path and {measured}{beside}",
        };
    }

    /// <summary>How far such estimates can be relied on, for people.</summary>
    public string Reliance() => Record.Reliance("no estimate on this path has been put to the test yet", $"{(Record.Scored == 1 ? "estimate" : "estimates")} on this path");

    private static string Shown(double seconds) => Units.Duration(TimeSpan.FromSeconds(Math.Min(seconds, TimeSpan.FromDays(9999).TotalSeconds)));
}
