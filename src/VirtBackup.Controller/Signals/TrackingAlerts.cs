using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Controller.Control;
using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Controller.Signals;

/// <summary>
/// Keeps what audits of change tracking found. A missed change makes the machine suspect until a full read has gone through,
/// and an alert until somebody accepts it. Safe for concurrent use.
/// </summary>
public sealed partial class TrackingAlerts(CatalogDatabase catalog, JobService jobs, TimeProvider time, ILogger<TrackingAlerts> logger)
{
    private const int TextCharsMax = 1024;
    private const int IntervalsMax = 30;

    private static readonly TimeSpan Day = TimeSpan.FromDays(1);

    /// <summary>An agent has reported on a job: a miss counts even if the run gets no point.</summary>
    internal async ValueTask NoteReportAsync(Caller caller, JobReport report, CancellationToken cancellationToken)
    {
        if (report.Progress is not { AuditMisses: > 0 } || report.State == Protocol.Common.V1.JobState.Succeeded)
        {
            return;
        }
        var job = await jobs.GetAsync(WireText.ToId(report.JobId, "job id"), cancellationToken);
        if (job.Kind == JobKind.Backup && job.Agent == caller.Name)
        {
            await catalog.Audits.NoteMissAsync(job.VmId, job.PointId, time.NowMs(), $"see the log of job {job.JobId}", cancellationToken);
        }
    }

    /// <summary>The point of a run is committed.</summary>
    internal async ValueTask NoteCommittedAsync(ManifestHead head, AuditStatistics? audit, CancellationToken cancellationToken)
    {
        var miss = audit is { Misses: > 0 } ? WireText.Shortened(audit.Miss ?? "it does not say where", TextCharsMax) : null;
        var row = audit is null ? null : new AuditRow
        {
            VmId = head.Vm, PointId = head.Point, EndedMs = time.NowMs(), UnchangedBlocks = audit.UnchangedBlocks, AuditedBlocks = audit.AuditedBlocks,
            AuditedBytes = audit.AuditedBytes, Runs = audit.Runs, RunsTaken = audit.RunsTaken, RunsLeft = audit.RunsLeft, RotatedBytes = audit.RotatedBytes,
            RotationBytes = audit.RotationBytes, IsCut = audit.IsCut, Omitted = WireText.Shortened(audit.Omitted ?? "", TextCharsMax),
        };
        await catalog.Audits.NoteCommittedAsync(head.Vm, row, miss, cancellationToken);
        if (miss is not null)
        {
            LogMissed(head.Vm, head.Point, miss);
        }
    }

    /// <summary>Somebody has seen what was missed. Returns whether there was an alert.</summary>
    internal async ValueTask<bool> AcceptAsync(Id16 vm, string name, string acceptedBy, CancellationToken cancellationToken)
    {
        var wasAlerted = await catalog.Audits.AcceptAsync(vm, cancellationToken);
        if (wasAlerted)
        {
            LogAccepted(name, acceptedBy);
        }
        return wasAlerted;
    }

    /// <summary>Whether there is something that people should look at.</summary>
    internal async ValueTask<bool> IsAlertedAsync(Id16 vm, CancellationToken cancellationToken) =>
        await catalog.Audits.FindAsync(vm, cancellationToken) is { MissMs: not 0 } or { SuspectMs: not 0 };

    /// <summary>For people and tools; null: nothing was audited, or missed.</summary>
    internal async ValueTask<TrackingAudit?> DescribeAsync(Id16 vm, CancellationToken cancellationToken)
    {
        if (await catalog.Audits.FindAsync(vm, cancellationToken) is not { } row)
        {
            return null;
        }
        var odds = new AuditStatistics { UnchangedBlocks = row.UnchangedBlocks, AuditedBlocks = row.AuditedBlocks };
        var message = new TrackingAudit
        {
            RunTime = TimeOf(row.EndedMs), PointId = WireText.ToText(row.PointId), UnchangedBlocks = (ulong)row.UnchangedBlocks, AuditedBlocks = (ulong)row.AuditedBlocks,
            AuditedBytes = (ulong)row.AuditedBytes, Detects1 = odds.DetectionOf(1), Detects10 = odds.DetectionOf(10), Detects100 = odds.DetectionOf(100),
            Runs = (uint)row.Runs, RunsTaken = (uint)row.RunsTaken, RunsLeft = (uint)row.RunsLeft, RotatedBytes = (ulong)row.RotatedBytes,
            RotationBytes = (ulong)row.RotationBytes, Cut = row.IsCut, Omitted = row.Omitted, RotationTime = TimeOf(row.RotationMs),
            SuspectTime = TimeOf(row.SuspectMs), MissTime = TimeOf(row.MissMs), Miss = row.Miss,
        };
        if (await MeasureIntervalAsync(vm, cancellationToken) is { } interval)
        {
            message.DaysLeft = row.RunsLeft * (interval / Day);
        }
        return message;
    }

    private static Google.Protobuf.WellKnownTypes.Timestamp? TimeOf(long milliseconds) => milliseconds == 0 ? null : WireText.ToTimestamp(milliseconds);

    /// <summary>Median of the times between the machine's last runs; null with fewer than two.</summary>
    private async ValueTask<TimeSpan?> MeasureIntervalAsync(Id16 vm, CancellationToken cancellationToken)
    {
        var runs = await catalog.Runs.ListAsync(vm, IntervalsMax + 1, cancellationToken);
        var intervals = runs.Zip(runs.Skip(1), static (later, earlier) => later.EndedMs - earlier.EndedMs).Order().ToList();
        return intervals.Count == 0 ? null : TimeSpan.FromMilliseconds(Math.Max(0, intervals[intervals.Count / 2]));
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "Change tracking of virtual machine {Vm} missed a change, found by the audit of the run of recovery point {Point}: {Miss}. That run read in full; earlier points may lack changes.")]
    private partial void LogMissed(Id16 vm, Id16 point, string miss);

    [LoggerMessage(Level = LogLevel.Warning, Message = "That change tracking of '{Name}' missed a change was accepted by {AcceptedBy}.")]
    private partial void LogAccepted(string name, string acceptedBy);
}
