using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Catalog.Signals;
using VirtBackup.Controller.Control;
using VirtBackup.Controller.Retention;
using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Repository.Commits;

namespace VirtBackup.Controller.Signals;

/// <summary>
/// Watches what each machine's runs bring. A run that looks like an encrypted machine is flagged, and the recovery points
/// before it are held until somebody says that it was meant: before its own point can take their place. Safe for concurrent
/// use.
/// </summary>
public sealed partial class RunSignals(CatalogDatabase catalog, PointCustody custody, JobService jobs, TimeProvider time, ILogger<RunSignals> logger)
{
    /// <summary>Who holds the points before an abnormal run.</summary>
    public const string Placer = "run-signals";

    /// <summary>Judges a run whose point is about to be committed. What an abnormal one needs is durable when this returns.</summary>
    /// <param name="head">Of the point.</param>
    /// <param name="sent">Bytes of the chunks that its session sent.</param>
    /// <param name="audit">What it audited of change tracking; null: nothing.</param>
    /// <param name="cancellationToken">Stops between steps; the next call does it all anew.</param>
    internal async ValueTask<RunRow> JudgeAsync(ManifestHead head, (long Raw, long Sealed) sent, AuditStatistics? audit, CancellationToken cancellationToken)
    {
        var disks = head.Streams.Where(static stream => stream.Kind == StreamKind.Disk).ToList();
        // Memory that the last point did not hold has grown; it is no sign of anything.
        var large = head.Streams.Where(static stream => stream.Kind is StreamKind.Disk or StreamKind.RamState or StreamKind.DeviceState).ToList();
        var earlier = await catalog.Runs.ListAsync(head.Vm, RunRecords.CountMax, cancellationToken);
        var (newBytes, storedBytes) = await catalog.Runs.SumUnfinishedAsync(head.Vm, cancellationToken);
        var cut = CutOf(head, disks);
        var last = earlier.Find(row => row.PointId != head.Point);
        var run = new RunRow
        {
            PointId = head.Point, VmId = head.Vm, EndedMs = time.NowMs(), Cut = cut, IsComparable = last is not null && last.Cut == cut,
            LogicalBytes = large.Sum(static stream => stream.Geometry.StreamLength), GrownBytes = await MeasureGrowthAsync(last, large, cancellationToken),
            NewBytes = newBytes + sent.Raw, StoredBytes = storedBytes + sent.Sealed,
            AuditedBytes = audit?.AuditedBytes ?? 0, AuditMisses = audit?.Misses ?? 0,
        };
        var judgement = RunJudge.Judge(run, earlier.Where(row => row.PointId != head.Point));
        run = run with { Verdict = judgement.Verdict, UsualNew = judgement.UsualNew, UsualStored = judgement.UsualStored };
        if (run.Verdict != RunVerdict.Abnormal)
        {
            return run;
        }
        await catalog.Runs.SaveAsync(run, isCommitted: false, cancellationToken);
        return await HoldAsync(run, cancellationToken);
    }

    /// <summary>The point of a judged run is committed.</summary>
    internal async ValueTask NoteCommittedAsync(RunRow run, Id16 job, CancellationToken cancellationToken)
    {
        await catalog.Runs.SaveAsync(run, isCommitted: true, cancellationToken);
        if (run.Verdict == RunVerdict.Abnormal)
        {
            await jobs.NoteAsync(job, $"This run is unusual: {SignalMessages.Explain(run)}", cancellationToken);
        }
    }

    /// <summary>A session is over. What it sent without a point counts for the next that gets one.</summary>
    internal async ValueTask NoteEndedAsync(CommitExpectation expectation, bool isCommitted, (long Raw, long Sealed) sent)
    {
        if (isCommitted || sent.Raw == 0)
        {
            return;
        }
        try
        {
            await catalog.Runs.AddUnfinishedAsync(
                new RunRow { PointId = expectation.Point, VmId = expectation.Vm, EndedMs = time.NowMs(), NewBytes = sent.Raw, StoredBytes = sent.Sealed }, CancellationToken.None);
        }
        catch (FaultException fault)
        {
            LogNotNoted(fault.Message);
        }
    }

    /// <summary>Says that a machine's abnormal runs were meant: they are usual from now on, and what was held for them is let go.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: no run is flagged.</exception>
    public async ValueTask<(int Runs, int Holds)> AcceptAsync(Id16 vm, string name, string acceptedBy, CancellationToken cancellationToken)
    {
        if ((await catalog.Runs.ListAbnormalAsync(vm, cancellationToken)).Count == 0)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"No run of '{name}' is flagged.");
        }
        // Holds first: cut off between the two, the flag is still there to be accepted again.
        var holds = await custody.ReleaseMachineAsync(vm, Placer, cancellationToken);
        var runs = await catalog.Runs.AcceptAsync(vm, cancellationToken);
        LogAccepted(runs, name, acceptedBy, holds);
        return (runs, holds);
    }

    /// <summary>Places the holds that a crash left out.</summary>
    public async ValueTask SettleAsync(CancellationToken cancellationToken)
    {
        foreach (var run in await catalog.Runs.ListAbnormalAsync(null, cancellationToken))
        {
            if (!run.IsHeld)
            {
                _ = await HoldAsync(run, cancellationToken);
            }
        }
    }

    private async ValueTask<RunRow> HoldAsync(RunRow run, CancellationToken cancellationToken)
    {
        var flagged = (await catalog.Runs.ListAbnormalAsync(run.VmId, cancellationToken)).Select(static row => row.PointId).Append(run.PointId).ToHashSet();
        var held = await custody.HoldMachineAsync(
            run.VmId, point => point.CreatedMs <= run.EndedMs && !flagged.Contains(point.PointId), SignalMessages.ReasonOf(run), Placer, cancellationToken);
        var after = run with { IsHeld = true };
        await catalog.Runs.SaveAsync(after, isCommitted: false, cancellationToken);
        LogAbnormal(run.PointId, run.VmId, SignalMessages.Explain(run), held);
        return after;
    }

    private async ValueTask<long> MeasureGrowthAsync(RunRow? last, List<ManifestStream> disks, CancellationToken cancellationToken)
    {
        if (last is null || await catalog.Points.FindAsync(last.PointId, cancellationToken) is not { } before)
        {
            return 0;
        }
        var lengths = before.Streams.ToDictionary(static stream => stream.StreamId, static stream => stream.LengthBytes);
        return disks.Sum(disk => Math.Max(0, disk.Geometry.StreamLength - lengths.GetValueOrDefault(disk.Id.ToString())));
    }

    /// <summary>Whatever changes the names of unchanged chunks.</summary>
    private static string CutOf(ManifestHead head, List<ManifestStream> disks) =>
        $"{head.Scope}/{head.IdGeneration}/" + string.Join(',', disks.Select(static disk => $"{disk.Geometry.Shape.Chunker}-{disk.Geometry.Shape.ChunkLog2}").Distinct().Order(StringComparer.Ordinal));

    [LoggerMessage(Level = LogLevel.Warning, Message = "The run of recovery point {Point} of virtual machine {Vm} is unusual: {Explanation} Recovery points held: {Held}.")]
    private partial void LogAbnormal(Id16 point, Id16 vm, string explanation, int held);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Runs} unusual runs of '{Name}' were accepted by {AcceptedBy}; {Holds} holds were released.")]
    private partial void LogAccepted(int runs, string name, string acceptedBy, int holds);

    [LoggerMessage(Level = LogLevel.Warning, Message = "What an unfinished run sent could not be noted: {Reason}")]
    private partial void LogNotNoted(string reason);
}
