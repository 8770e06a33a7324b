using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Cli.Following;

/// <summary>A running job in one line.</summary>
internal static class ProgressText
{
    private const string Separator = " · ";

    /// <summary>Queued, or what the agent is doing.</summary>
    public static string PhaseOf(Job job) => job switch
    {
        { CancelRequested: true } => "cancelling",
        { State: JobState.Queued, Kind: "replication" } => "waiting for its turn",
        { State: JobState.Queued or JobState.Unspecified } => "waiting for the agent",
        { Progress.Phase: { Length: > 0 } phase } => TextLayout.Clean(phase),
        _ => "working",
    };

    /// <summary>Speed, remaining time, chunks: as many of them as fit.</summary>
    public static string RateOf(Job job, TransferRate rate, int widthMax = int.MaxValue)
    {
        var progress = job.Progress ?? new Progress();
        var parts = new List<string>();
        if (rate.BytesPerSecond is { } speed)
        {
            parts.Add(Units.Rate(speed));
        }
        if (rate.Remaining(progress.BytesDone, progress.BytesTotal) is { } remaining)
        {
            parts.Add($"{Units.Duration(remaining)} left");
        }
        if (EstimateView.Of(progress.Estimate) is { } estimate)
        {
            parts.Add($"estimated {estimate.Span()}");
        }
        if ((progress.ChunksNew | progress.ChunksKnown | progress.ChunksZero) != 0)
        {
            parts.Add($"chunks {Units.Count(progress.ChunksNew)} new, {Units.Count(progress.ChunksKnown)} known, {Units.Count(progress.ChunksZero)} zero");
        }
        var text = string.Join(Separator, parts);
        while (text.Length > widthMax && parts.Count > 0)
        {
            parts.RemoveAt(parts.Count - 1);
            text = string.Join(Separator, parts);
        }
        return text;
    }

    public static string LineOf(Job job, TransferRate rate)
    {
        var progress = job.Progress ?? new Progress();
        if (progress is { Phase: "auditing", BytesAudited: > 0 })
        {
            return $"{PhaseOf(job)}: {Units.Bytes(progress.BytesAudited)} called unchanged read again";
        }
        var line = progress.BytesTotal > 0
            ? $"{PhaseOf(job)}: {Units.Percent(progress.BytesDone, progress.BytesTotal)} ({Units.Bytes(progress.BytesDone)} of {Units.Bytes(progress.BytesTotal)})"
            : PhaseOf(job);
        return RateOf(job, rate) is { Length: > 0 } more ? line + Separator + more : line;
    }
}
