using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Catalog.Estimates;
using VirtBackup.Core;
using VirtBackup.Protocol.Agent.V1;
using EstimateRecord = VirtBackup.Catalog.Estimates.EstimateRecord;
using RestoreEstimate = VirtBackup.Protocol.Common.V1.RestoreEstimate;
using WireRecord = VirtBackup.Protocol.Common.V1.EstimateRecord;

namespace VirtBackup.Controller.Control;

/// <summary>
/// Says how long restores take, and keeps how that turned out: made when the agent's survey arrives, before the first byte is
/// written, and scored when the restore is over. Only one call at a time.
/// </summary>
public sealed partial class RestoreEstimates(EstimateRecords records, TimeProvider time, ILogger<RestoreEstimates> logger)
{
    private const int PathCharsMax = 512;
    private readonly Dictionary<Id16, RestoreEstimate> _open = [];

    /// <summary>Puts the estimate into a report of a restore, or of its check, in place of whatever an agent says there.</summary>
    /// <param name="job">The job before the report.</param>
    /// <param name="report">Its progress and result get the estimate.</param>
    /// <param name="jobs">Restores and backups of the agent that are not over, this one included.</param>
    /// <param name="cancellationToken">Stops between steps.</param>
    public async ValueTask NoteAsync(JobRow job, JobReport report, int jobs, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(job);
        ArgumentNullException.ThrowIfNull(report);
        report.Progress?.Estimate = null;
        switch (report.ResultCase)
        {
            case JobReport.ResultOneofCase.Restore:
                report.Restore.Estimate = null;
                break;
            case JobReport.ResultOneofCase.CheckRestore:
                report.CheckRestore.Estimate = null;
                break;
        }
        try
        {
            switch (job.Kind)
            {
                case JobKind.RestoreCheck when report is { Survey: { } survey, ResultCase: JobReport.ResultOneofCase.CheckRestore }:
                    report.CheckRestore.Estimate = Describe(await MakeAsync(job, survey, jobs, cancellationToken));
                    break;
                case JobKind.Restore:
                    await FollowAsync(job, report, jobs, cancellationToken);
                    break;
            }
        }
        catch (FaultException fault)
        {
            // A restore goes on without an estimate.
            LogNotMade(job.JobId, fault.Message);
        }
    }

    /// <summary>The job is over without a result.</summary>
    public async ValueTask WithdrawAsync(Id16 job, CancellationToken cancellationToken)
    {
        if (_open.Remove(job))
        {
            await records.WithdrawAsync(job, cancellationToken);
        }
    }

    private async ValueTask FollowAsync(JobRow job, JobReport report, int jobs, CancellationToken cancellationToken)
    {
        if (report.Survey is not { } survey)
        {
            return;
        }
        if (!_open.TryGetValue(job.JobId, out var estimate))
        {
            // After a restart of the controller the job has one.
            var stored = await records.FindAsync(job.JobId, cancellationToken);
            var made = stored is null ? await MakeAsync(job, survey, jobs, cancellationToken) : await WithRecordAsync(stored, cancellationToken);
            if (stored is null)
            {
                await records.AddAsync(made.Row, cancellationToken);
            }
            _open[job.JobId] = estimate = Describe(made);
        }
        report.Progress?.Estimate = estimate;
        if (report.ResultCase == JobReport.ResultOneofCase.Restore && double.IsFinite(report.Restore.ElapsedSeconds) && report.Restore.ElapsedSeconds > 0)
        {
            await records.ScoreAsync(job.JobId, report.Restore.ElapsedSeconds, (long)Math.Min(report.Progress?.BytesSent ?? 0, long.MaxValue), cancellationToken);
            report.Restore.Estimate = estimate.Clone();
            report.Restore.Estimate.ActualSeconds = report.Restore.ElapsedSeconds;
            _open.Remove(job.JobId);
        }
    }

    private async ValueTask<(EstimateRow Row, EstimateRecord Record)> MakeAsync(JobRow job, RestoreSurvey survey, int jobs, CancellationToken cancellationToken)
    {
        var row = new EstimateRow
        {
            JobId = job.JobId, PointId = job.PointId, Path = $"{job.Agent} → {WireText.Bounded(survey.Path, PathCharsMax, "path of a restore")}", MadeMs = time.NowMs(),
            DataBytes = (long)Math.Min(survey.DataBytes, long.MaxValue / 2), Jobs = Math.Max(1, jobs),
            SampleBytes = (long)Math.Min(survey.SampleBytes, long.MaxValue), SampleWireBytes = (long)Math.Min(survey.SampleWireBytes, long.MaxValue),
            SampleSeconds = double.IsFinite(survey.SampleSeconds) ? Math.Clamp(survey.SampleSeconds, 1e-6, 1e6) : 1, P50Seconds = 0, P90Seconds = 0,
        };
        var history = await records.ListScoredAsync(row.Path, EstimateRecords.CountMax, cancellationToken);
        var estimate = RestoreEstimator.Estimate(
            row.Conditions, [.. history.Select(static past => new PastRestore(past.Conditions, past.ActualSeconds!.Value))], [.. history.Select(static past => past.IsWithinP90)],
            EstimatorSettings.Default);
        return (row with { P50Seconds = estimate.P50Seconds, P90Seconds = estimate.P90Seconds, JudgedBy = estimate.JudgedBy }, EstimateRecord.Of(history));
    }

    private async ValueTask<(EstimateRow Row, EstimateRecord Record)> WithRecordAsync(EstimateRow row, CancellationToken cancellationToken) =>
        (row, EstimateRecord.Of(await records.ListScoredAsync(row.Path, EstimateRecord.CountMax, cancellationToken)));

    private static RestoreEstimate Describe((EstimateRow Row, EstimateRecord Record) made)
    {
        var (row, record) = made;
        return new RestoreEstimate
        {
            P50Seconds = row.P50Seconds,
            P90Seconds = row.P90Seconds,
            DataBytes = (ulong)row.DataBytes,
            WireBytes = row.SampleBytes > 0 ? (ulong)(row.DataBytes * ((double)row.SampleWireBytes / row.SampleBytes)) : 0,
            Path = row.Path,
            JudgedBy = (uint)row.JudgedBy,
            SampleBytesPerSecond = row.Conditions.SampleSecondsPerByte is > 0 and var perByte ? 1 / perByte : 0,
            OtherJobs = (uint)row.Jobs - 1,
            Record = new WireRecord { Scored = (uint)record.Scored, WithinP50 = (uint)record.WithinP50, WithinP90 = (uint)record.WithinP90, MedianError = record.MedianError },
        };
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "The time of restore job {JobId} could not be estimated or kept: {Reason}")]
    private partial void LogNotMade(Id16 jobId, string reason);
}
