using Google.Protobuf;
using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Controller.Control;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Repository.Scrubbing;
using VirtBackup.Sealing;

namespace VirtBackup.Controller.Scrubbing;

/// <summary>
/// Reads the whole repository again and again, evenly, so that every pack is proven within the days of the settings; and at
/// once, as a job, when somebody asks. It deletes nothing that anybody could miss, so it needs no trusted time. Safe for
/// concurrent use.
/// </summary>
public sealed partial class ScrubService : IDisposable
{
    /// <summary>Between two looks whether something is due.</summary>
    public static readonly TimeSpan Interval = TimeSpan.FromMinutes(5);

    /// <summary>Everything but packs is checked so often: there is little of it.</summary>
    public static readonly TimeSpan ObjectsInterval = TimeSpan.FromDays(1);

    /// <summary>Never slower, so that a small repository is not read for weeks, bytes in one second.</summary>
    public const long BytesPerSecondMin = 4 << 20;

    /// <summary>Half a day: a pack is due when half the days are over.</summary>
    internal const long HalfDayMs = 43_200_000;

    /// <summary>Bytes after which others get their turn.</summary>
    private const long SliceBytes = 256 << 20;

    private static readonly ScrubCycleRow Nothing = new(0, 0, 0, 0);

    private readonly ScrubParts _parts;
    private readonly ILogger _logger;
    private readonly OwnJobs _queue;
    private readonly Lock _sync = new();
    private ScrubCycleRow _running = Nothing;

    public ScrubService(ScrubParts parts, ILogger<ScrubService> logger)
    {
        ArgumentNullException.ThrowIfNull(parts);
        (_parts, _logger) = (parts, logger);
        _queue = new OwnJobs(RunAsync, "scrub", parts.Jobs, logger);
        parts.Repository.Upkeep.Healed = Tell;
    }

    /// <inheritdoc cref="OwnJobs.StartAsync"/>
    public ValueTask StartAsync(JobRow job, CancellationToken cancellationToken) => _queue.StartAsync(job, cancellationToken);

    public void Cancel(Id16 jobId) => _queue.Cancel(jobId);

    /// <summary>Works on the queue until cancelled.</summary>
    public Task RunJobsAsync(CancellationToken cancellationToken) => _queue.RunAsync(cancellationToken);

    /// <summary>Reads what is due, until cancelled.</summary>
    public async Task RunRegularlyAsync(CancellationToken cancellationToken)
    {
        await Task.Yield();
        if (_parts.Repository.OpenReport.Rebuilt)
        {
            await TryAsync(RecallDamagesAsync(cancellationToken));
        }
        else if (_parts.Repository.OpenReport.ProblemCount > 0)
        {
            await TryAsync(SettleAsync([], cancellationToken));
        }
        while (true)
        {
            await Task.Delay(Interval, _parts.Time, cancellationToken);
            await TryAsync(_parts.Settings.Off ? SettleAsync([], cancellationToken) : WorkAsync(cancellationToken));
        }
    }

    public void Dispose() => _queue.Dispose();

    private async ValueTask TryAsync(ValueTask work)
    {
        try
        {
            await work;
        }
        catch (FaultException fault)
        {
            LogNotNow(fault.Message);
        }
        catch (Exception failure) when (failure is not OperationCanceledException)
        {
            LogBroken(failure);
        }
    }

    /// <summary>
    /// What must be read in one second: a pack is due when half the days are over, and then there is the other half to read
    /// it in.
    /// </summary>
    internal static long RateOf(long repositoryBytes, int days, long limit)
    {
        var needed = Math.Max(BytesPerSecondMin, (long)(repositoryBytes / (days * 43_200.0)) + 1);
        return limit > 0 ? Math.Min(needed, limit) : needed;
    }

    /// <summary>Packs with a proof older than that are due: half the days.</summary>
    private long DueBefore(long nowMs) => nowMs - (_parts.Settings.Days * HalfDayMs);

    private async ValueTask WorkAsync(CancellationToken cancellationToken)
    {
        await CheckObjectsAsync(isAsked: false, cancellationToken);
        var due = await _parts.Repository.Upkeep.ReadProofAsync(DueBefore(_parts.Time.NowMs()), cancellationToken);
        if (due.Bytes == due.BytesProven && _parts.Sources.Count == 0)
        {
            await SettleAsync([], cancellationToken);
            await NoteCycleAsync(new ScrubReport { IsDone = true }, cancellationToken);
            return;
        }
        using var opener = new EscrowedChunkOpener(_parts.Keyholder, _parts.Repository.Head);
        while (true)
        {
            var now = _parts.Time.NowMs();
            var proof = await _parts.Repository.Upkeep.ReadProofAsync(now, cancellationToken);
            var report = await _parts.Repository.Upkeep.ScrubAsync(
                new ScrubOptions
                {
                    CheckedBeforeMs = DueBefore(now), BytesMax = SliceBytes, Opener = opener,
                    BytesPerSecond = RateOf(proof.Bytes, _parts.Settings.Days, _parts.Settings.ReadBytesPerSecondMax),
                },
                cancellationToken);
            LogFindings(report);
            await SettleAsync(report.Problems.Select(static problem => (problem.ObjectKey, problem.Problem)).ToList(), cancellationToken);
            _ = await HealAsync(opener, cancellationToken);
            await NoteCycleAsync(report, cancellationToken);
            if (report.IsDone)
            {
                return;
            }
        }
    }

    /// <summary>An index that was made anew knows of no damage, and would let new recovery points rely on what is known to be damaged.</summary>
    private async ValueTask RecallDamagesAsync(CancellationToken cancellationToken)
    {
        var known = (await _parts.Catalog.Damages.ListOpenAsync(cancellationToken)).ConvertAll(static row => row.ObjectKey);
        if (known.Count == 0)
        {
            return;
        }
        using var opener = new EscrowedChunkOpener(_parts.Keyholder, _parts.Repository.Head);
        var report = await _parts.Repository.Upkeep.ScrubAsync(new ScrubOptions { CheckedBeforeMs = 0, First = known, Opener = opener }, cancellationToken);
        LogFindings(report);
        await SettleAsync(report.Problems.Select(static problem => (problem.ObjectKey, problem.Problem)).ToList(), cancellationToken);
    }

    private async ValueTask SettleAsync(IReadOnlyList<(string, string)> unreadable, CancellationToken cancellationToken)
    {
        foreach (var point in await _parts.Repository.Upkeep.SettleAsync(cancellationToken))
        {
            LogWhole(point);
        }
        await _parts.Ledger.NotePacksAsync(unreadable, cancellationToken);
    }

    private async ValueTask<HealReport> HealAsync(EscrowedChunkOpener opener, CancellationToken cancellationToken)
    {
        if (!(await _parts.Repository.Upkeep.ListDamagesAsync(cancellationToken)).Any(static pack => pack.HealedMs == 0))
        {
            return new HealReport([], 0, 0);
        }
        var report = await _parts.Repository.Upkeep.HealAsync(_parts.Sources, opener, cancellationToken);
        foreach (var (record, source) in report.Healed)
        {
            LogFetched(record.Kind, record.Id, source);
        }
        if (report.HealedCount > 0)
        {
            await _parts.Ledger.NotePacksAsync([], cancellationToken);
        }
        return report;
    }

    private async ValueTask<IReadOnlyList<Repository.Verification.Damage>> CheckObjectsAsync(bool isAsked, CancellationToken cancellationToken)
    {
        var cycle = await _parts.Catalog.Damages.ReadCycleAsync(cancellationToken);
        var now = _parts.Time.NowMs();
        if (!isAsked && cycle.ObjectsMs <= now && cycle.ObjectsMs > now - (long)ObjectsInterval.TotalMilliseconds)
        {
            return [];
        }
        var damages = await _parts.Repository.Upkeep.CheckObjectsAsync(new KeptSignatures(_parts.Store), cancellationToken);
        await _parts.Ledger.NoteObjectsAsync(damages, cancellationToken);
        await _parts.Catalog.Damages.SaveCycleAsync(cycle with { ObjectsMs = now }, cancellationToken);
        return damages;
    }

    /// <summary>Adds what a run did to the cycle; the run that leaves nothing due ends it. Regular runs and jobs come here together.</summary>
    internal async ValueTask NoteCycleAsync(ScrubReport report, CancellationToken cancellationToken)
    {
        ScrubCycleRow cycle;
        lock (_sync)
        {
            cycle = new ScrubCycleRow(0, 0, _running.Bytes + report.Bytes, _running.Damages + report.DamageCount);
            _running = report.IsDone ? Nothing : cycle;
        }
        if (report.IsDone)
        {
            var before = await _parts.Catalog.Damages.ReadCycleAsync(cancellationToken);
            var isNew = cycle.Bytes > 0;
            await _parts.Catalog.Damages.SaveCycleAsync(
                before with { FinishedMs = _parts.Time.NowMs(), Bytes = isNew ? cycle.Bytes : before.Bytes, Damages = isNew ? cycle.Damages : before.Damages }, cancellationToken);
            if (isNew)
            {
                LogDone(cycle.Bytes, cycle.Damages);
            }
        }
    }

    private async ValueTask<IMessage> RunAsync(JobRow job, CancellationToken cancellationToken)
    {
        var request = StartScrubRequest.Parser.ParseFrom(job.Options);
        await _parts.Jobs.ProgressAsync(job.JobId, new Progress { Phase = "scrubbing" }.ToByteArray(), cancellationToken);
        var objects = await CheckObjectsAsync(isAsked: true, cancellationToken);
        using var opener = new EscrowedChunkOpener(_parts.Keyholder, _parts.Repository.Head);
        var progress = new JobProgress<ScrubProgress>(
            _parts.Jobs, job.JobId, _parts.Time, static now => new Progress { Phase = "scrubbing", BytesTotal = (ulong)now.BytesTotal, BytesDone = (ulong)now.Bytes });
        var options = new ScrubOptions
        {
            CheckedBeforeMs = long.MaxValue, Opener = opener, Progress = progress,
            BytesPerSecond = request.ReadBytesPerSecondMax == 0 ? null : (long)Math.Min(request.ReadBytesPerSecondMax, long.MaxValue),
        };
        var report = await progress.DuringAsync(() => _parts.Repository.Upkeep.ScrubAsync(options, cancellationToken), cancellationToken);
        LogFindings(report);
        await SettleAsync(report.Problems.Select(static problem => (problem.ObjectKey, problem.Problem)).ToList(), cancellationToken);
        var healed = await HealAsync(opener, cancellationToken);
        await NoteCycleAsync(report, cancellationToken);
        foreach (var finding in report.Findings)
        {
            await _parts.Jobs.NoteAsync(
                job.JobId, $"{finding.ObjectKey}: {finding.Problem} {finding.RecordsLost} records lost, {finding.RecordsDoubtful} doubtful, {finding.RecordsSaved} saved, {finding.RecordsCovered} with another copy.", cancellationToken);
        }
        return ScrubMessages.ToResult(report, objects, healed);
    }

    private void LogFindings(ScrubReport report)
    {
        foreach (var finding in report.Findings)
        {
            LogFinding(finding.ObjectKey, finding.Problem, finding.RecordsLost, finding.RecordsDoubtful, finding.RecordsSaved, finding.RecordsCovered);
        }
    }

    private void Tell(IReadOnlyList<HealedRecord> healed)
    {
        foreach (var record in healed)
        {
            LogSent(record.Kind, record.Id);
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Scrub: everything that was due is read, {Bytes} bytes, {Damages} damages.")]
    private partial void LogDone(long bytes, long damages);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{ObjectKey}: {Problem} Records: {Lost} lost, {Doubtful} doubtful, {Saved} saved, {Covered} with another copy.")]
    private partial void LogFinding(string objectKey, string problem, long lost, long doubtful, long saved, long covered);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The damaged {Kind} record {Id} was healed by an upload.")]
    private partial void LogSent(Format.Records.RecordKind kind, Id32 id);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The damaged {Kind} record {Id} was healed from {Source}.")]
    private partial void LogFetched(Format.Records.RecordKind kind, Id32 id, string source);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The recovery point {Point} is whole again.")]
    private partial void LogWhole(Id16 point);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The scrub did not run: {Reason}")]
    private partial void LogNotNow(string reason);

    [LoggerMessage(Level = LogLevel.Error, Message = "The scrub failed; it is tried again in some minutes.")]
    private partial void LogBroken(Exception failure);
}
