using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Cli.Views;

internal sealed record ProgressView(
    string? Phase, ulong BytesTotal, ulong BytesDone, ulong BytesSent, ulong ChunksNew, ulong ChunksKnown, ulong ChunksZero, ulong BytesAudited, ulong AuditMisses, EstimateView? Estimate)
{
    public static ProgressView Of(Progress progress) => new(
        WireNames.TextOrNull(progress.Phase), progress.BytesTotal, progress.BytesDone, progress.BytesSent, progress.ChunksNew, progress.ChunksKnown,
        progress.ChunksZero, progress.BytesAudited, progress.AuditMisses, EstimateView.Of(progress.Estimate));
}

internal sealed record FailureView(string Reason, string Message);

/// <summary>A job; the member of its result that fits its kind is present once it succeeded, of a recovery once it ended.</summary>
internal sealed record JobView(
    string JobId, string Kind, string State, string? VmId, string? Vm, string? Agent, string? PointId, ulong Attempt, ProgressView? Progress,
    DateTimeOffset? CreateTime, DateTimeOffset? StartTime, DateTimeOffset? EndTime, bool CancelRequested, FailureView? Failure, ResultView? Result)
{
    public static JobView Of(Job job) => new(
        job.JobId, job.Kind, WireNames.Of(job.State), WireNames.TextOrNull(job.VmId), WireNames.TextOrNull(job.VmName), WireNames.TextOrNull(job.Agent),
        WireNames.TextOrNull(job.PointId), job.Attempt, job.Progress is { } progress ? ProgressView.Of(progress) : null, WireNames.Of(job.CreateTime),
        WireNames.Of(job.StartTime), WireNames.Of(job.EndTime), job.CancelRequested,
        job.FailureMessage.Length > 0 || job.State == JobState.Failed ? new FailureView(WireNames.Of(job.FailureReason), job.FailureMessage) : null,
        ResultView.Of(job.Result));

    /// <summary>How long it ran, once it ended.</summary>
    public double? DurationSeconds => (EndTime - StartTime)?.TotalSeconds;
}
