using VirtBackup.Catalog;
using VirtBackup.Catalog.Migrations;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Controller.Migrations;

/// <summary>
/// One migration, step by step. A step is durable before its job is made, and its job is made once whatever happens, so that a
/// controller that comes back goes on where it was. The target starts only after the source is known to be retired; the source comes
/// back only after the target, if it was told to start, is known to be gone.
/// </summary>
internal sealed class MigrationRun(MigrationParts parts, MigrationRow row, CancellationToken cancel)
{
    private const int StepTriesMax = 3;
    private const int BackTriesMax = 20;
    private static readonly TimeSpan RetryDelay = TimeSpan.FromSeconds(2);

    private readonly MigrationOptions _options = MigrationOptions.Parser.ParseFrom(row.Options);
    private readonly MigrationReport _report = new(parts, row);

    /// <summary>Until it is over, or the controller stops.</summary>
    public async Task RunAsync(CancellationToken stopping)
    {
        parts.Owners.Set(row.VmId, IsOnTarget(row.Step) ? row.TargetAgent : row.SourceAgent);
        while (row.State == JobPhase.Running)
        {
            MigrationRow next;
            try
            {
                next = row.Step is MigrationStep.Checking && !await FindPointAsync(stopping) ? AfterCheck() : await TakeAsync(stopping);
            }
            catch (FaultException) when (IsBack && row.Tries + 1 < BackTriesMax)
            {
                next = await AgainAsync(stopping);
            }
            catch (FaultException fault)
            {
                next = await FailAsync(fault.Message, fault.Reason, stopping);
            }
            catch (OperationCanceledException) when (!stopping.IsCancellationRequested)
            {
                next = await FailAsync("The migration was cancelled.", FaultReason.Cancelled, stopping);
            }
            await KeepAsync(next, stopping);
        }
        parts.Owners.Clear(row.VmId);
        await parts.Jobs.FinishAsync(row.MigrationId, row.State, row.Result, row.Failure, row.FailureReason, stopping);
    }

    private async ValueTask KeepAsync(MigrationRow next, CancellationToken stopping)
    {
        if (next is { Step: MigrationStep.RemovingSource } or { State: JobPhase.Succeeded } && next.TargetAgent != next.SourceAgent && row.Step is MigrationStep.Starting or MigrationStep.Retiring)
        {
            // Before the step is kept: nobody's inventory takes it back meanwhile.
            using var turn = await parts.Owners.EnterAsync(stopping);
            parts.Owners.Set(next.VmId, next.TargetAgent);
            await parts.Catalog.Machines.MoveAsync(next.VmId, next.TargetAgent, running: next.StoppedMs is not null, stopping);
        }
        if (next.Step == MigrationStep.Stopping && row.Step != MigrationStep.Stopping)
        {
            // Before it is told to stop: an agent that died behind it without a word finds it off when it is asked again.
            var machine = await parts.Catalog.Machines.FindAsync(row.VmId, stopping);
            next = next with { StoppedMs = machine is { Running: false } ? null : parts.Time.NowMs() };
        }
        next = next with { Result = _report.ToBytes(), EndedMs = next.State == JobPhase.Running ? null : parts.Time.NowMs() };
        await parts.Catalog.Migrations.SaveAsync(next, stopping);
        row = next;
    }

    private async Task<MigrationRow> TakeAsync(CancellationToken stopping)
    {
        if (row is { PredictedP50Seconds: 0, Step: MigrationStep.Copying or MigrationStep.Stopping })
        {
            await PredictAsync(stopping);
        }
        if (!IsBack && !IsOnTarget(row.Step) && row.Step != MigrationStep.Starting)
        {
            cancel.ThrowIfCancellationRequested();
        }
        var errand = MigrationTasks.For(row, _options);
        await parts.Jobs.NoteAsync(row.MigrationId, MigrationReport.Describe(row, errand.Agent), stopping);
        // What may have begun to run, and a guest that was told to shut down, are not given up: the outcome decides.
        var cancelling = IsBack || row.Step is MigrationStep.Stopping or MigrationStep.Starting or MigrationStep.RemovingSource ? CancellationToken.None : cancel;
        var job = await parts.Errands.RunAsync(errand, now => _report.FollowAsync(row, now, stopping), cancelling, stopping);
        return job.State == JobPhase.Succeeded ? await AdvanceAsync(job, stopping) : await AfterFailureAsync(job, stopping);
    }

    private async ValueTask<MigrationRow> AdvanceAsync(JobRow job, CancellationToken stopping)
    {
        switch (row.Step)
        {
            case MigrationStep.Checking:
                _report.NoteCheck(job);
                return AfterCheck();
            case MigrationStep.Copying:
                _report.NoteCopy(row, job, isLast: false);
                return To(row.Round == 0 ? MigrationStep.Restoring : MigrationStep.Applying) with { PointId = job.PointId };
            case MigrationStep.Restoring:
                _report.NoteApplied(job);
                return _options.Cold ? To(MigrationStep.Retiring) : To(MigrationStep.Copying) with { Round = 1 };
            case MigrationStep.Applying:
                _report.NoteApplied(job);
                return Converge();
            case MigrationStep.Stopping:
                var wasOff = row.StoppedMs is null && MigrationReport.WasOff(job);
                await parts.Jobs.NoteAsync(row.MigrationId, wasOff ? "The machine was off already, and stays off." : "The machine is off.", stopping);
                return To(MigrationStep.LastCopying) with { StopSeconds = job.RunSeconds, StoppedMs = wasOff ? null : job.StartedMs ?? job.CreatedMs };
            case MigrationStep.LastCopying:
                var bytes = _report.NoteCopy(row, job, isLast: true);
                return To(_options.Cold ? MigrationStep.Restoring : MigrationStep.LastApplying) with { PointId = job.PointId, LastBytes = bytes, LastSeconds = job.RunSeconds };
            case MigrationStep.LastApplying:
                _report.NoteApplied(job);
                return To(MigrationStep.Retiring) with { LastSeconds = row.LastSeconds + job.RunSeconds };
            case MigrationStep.Retiring when IsLeftOff:
                _report.NoteRetired(row);
                await parts.Jobs.NoteAsync(row.MigrationId, $"The machine is on {row.TargetAgent}, off as it was.", stopping);
                return _options.RemoveSource ? To(MigrationStep.RemovingSource) : row with { State = JobPhase.Succeeded };
            case MigrationStep.Retiring:
                return To(MigrationStep.Starting);
            case MigrationStep.Starting:
                var downtime = row.StoppedMs is { } stopped ? Math.Max(0.001, ((job.EndedMs ?? parts.Time.NowMs()) - stopped) / 1000.0) : 0;
                _report.NoteStarted(row, downtime);
                await parts.Jobs.NoteAsync(row.MigrationId, $"The machine runs on {row.TargetAgent}; it stood still for {downtime:0.0} s.", stopping);
                var started = row with { StartSeconds = job.RunSeconds, DowntimeSeconds = downtime };
                return _options.RemoveSource ? To(MigrationStep.RemovingSource, started) : started with { State = JobPhase.Succeeded };
            case MigrationStep.RemovingSource:
                _report.NoteSourceRemoved();
                return row with { State = JobPhase.Succeeded, SourceRemoved = true };
            case MigrationStep.MovingStorage:
                return row with { State = JobPhase.Succeeded, DowntimeSeconds = _report.NoteStorage(job) };
            case MigrationStep.HaltingTarget:
                return To(MigrationStep.ClearingTarget);
            case MigrationStep.ClearingTarget:
                return To(MigrationStep.Reinstating);
            case MigrationStep.Reinstating:
                return To(IsLeftOff ? MigrationStep.RemovingTarget : MigrationStep.RestartingSource);
            case MigrationStep.RestartingSource:
                await parts.Jobs.NoteAsync(row.MigrationId, $"The machine runs on {row.SourceAgent} again.", stopping);
                return To(MigrationStep.RemovingTarget);
            default:
                return Ended();
        }
    }

    private MigrationRow AfterCheck() =>
        _report.Blocked is { Length: > 0 } blocked ? Fail($"The machine cannot move to {row.TargetAgent}: {blocked}", FaultReason.FailedPrecondition)
        : To(_options.Cold ? MigrationStep.Stopping : MigrationStep.Copying);

    /// <summary>Whether a point exists by which the target can be checked before anything is copied.</summary>
    private async ValueTask<bool> FindPointAsync(CancellationToken stopping)
    {
        var newest = await parts.Catalog.Points.FindNewestAsync(row.VmId, null, stopping);
        if (newest is null)
        {
            return false;
        }
        row = row with { PointId = newest.PointId };
        return true;
    }

    private MigrationRow Converge()
    {
        var last = _report.LastRoundBytes;
        if (last <= MigrationDefaults.LastBytesOf(_options))
        {
            return To(MigrationStep.Stopping) with { Round = row.Round + 1 };
        }
        var shrinks = row.Round < 2 || last < _report.RoundBytesBefore * 0.9;
        if (shrinks && row.Round < MigrationDefaults.RoundsOf(_options))
        {
            return To(MigrationStep.Copying) with { Round = row.Round + 1 };
        }
        return _options.StopAnyway
            ? To(MigrationStep.Stopping) with { Round = row.Round + 1 }
            : Fail($"The machine changes as fast as it is copied: the last of {row.Round} increments read {last} bytes, and {MigrationDefaults.LastBytesOf(_options)} are allowed to stop it. "
                + "Allow more (--last-bytes), accept a longer stop (--stop-anyway), or migrate when it is less busy.", FaultReason.FailedPrecondition);
    }

    private async ValueTask<MigrationRow> AfterFailureAsync(JobRow job, CancellationToken stopping)
    {
        var message = job.State == JobPhase.Cancelled && !cancel.IsCancellationRequested
            ? $"The agent '{job.Agent}' could not be reached." : job.State == JobPhase.Cancelled ? "The migration was cancelled." : job.FailureMessage;
        var retries = !IsBack && !cancel.IsCancellationRequested && job.State == JobPhase.Failed && row.Tries + 1 < StepTriesMax
            && row.Step is MigrationStep.Applying or MigrationStep.LastApplying or MigrationStep.LastCopying or MigrationStep.Retiring or MigrationStep.RemovingSource;
        if (retries || (IsBack && row.Tries + 1 < BackTriesMax))
        {
            await parts.Jobs.NoteAsync(row.MigrationId, $"{message} It is tried again.", stopping);
            return await AgainAsync(stopping);
        }
        return await FailAsync(message, job.State == JobPhase.Cancelled ? FaultReason.Cancelled : job.FailureReason, stopping);
    }

    private async ValueTask<MigrationRow> AgainAsync(CancellationToken stopping)
    {
        await Task.Delay(RetryDelay, parts.Time, stopping);
        return row with { Tries = row.Tries + 1 };
    }

    private async ValueTask<MigrationRow> FailAsync(string message, FaultReason reason, CancellationToken stopping)
    {
        // One that was off before, and that nobody has begun to stop, is not started for having been in the way of a migration.
        var untouched = row is { Step: MigrationStep.Stopping, StoppedMs: null }
            && await parts.Catalog.Jobs.FindByRequestAsync(MigrationTasks.For(row, _options).Key, stopping) is null or { StartedMs: null };
        var next = Fail(message, reason);
        return untouched && next.Step == MigrationStep.RestartingSource ? To(MigrationStep.RemovingTarget, next) : next;
    }

    /// <summary>Where it goes from here when the step came to nothing.</summary>
    private MigrationRow Fail(string message, FaultReason reason)
    {
        if (row.Step == MigrationStep.RemovingSource)
        {
            _report.Note($"The copy on {row.SourceAgent} is retired, but not deleted: {message}");
            return row with { State = JobPhase.Succeeded };
        }
        if (IsBack)
        {
            return FailBack(message);
        }
        var failed = row with { Failure = message, FailureReason = reason, Cancelled = cancel.IsCancellationRequested };
        return row.Step switch
        {
            MigrationStep.Checking or MigrationStep.MovingStorage => Ended(failed),
            MigrationStep.Copying when row.Round == 0 => Ended(failed),
            MigrationStep.Copying or MigrationStep.Applying => To(MigrationStep.RemovingTarget, failed),
            MigrationStep.Restoring when !_options.Cold => To(MigrationStep.RemovingTarget, failed),
            MigrationStep.Retiring => To(MigrationStep.Reinstating, failed),
            MigrationStep.Starting => To(MigrationStep.HaltingTarget, failed),
            _ => To(IsLeftOff ? MigrationStep.RemovingTarget : MigrationStep.RestartingSource, failed),
        };
    }

    private MigrationRow FailBack(string message)
    {
        var failed = row with { Failure = $"{row.Failure} Going back failed, too: {message}" };
        return row.Step switch
        {
            // It cannot be told that the target does not run: the source must not.
            MigrationStep.HaltingTarget or MigrationStep.ClearingTarget => Ended(failed with
            {
                Failure = $"{failed.Failure} Whether the machine runs on {row.TargetAgent} is not known, so that it was not started on {row.SourceAgent}. Stop it there, then bring it back here.",
            }),
            MigrationStep.Reinstating or MigrationStep.RestartingSource => To(MigrationStep.RemovingTarget, failed with { Failure = $"{failed.Failure} Start the machine on {row.SourceAgent} by hand." }),
            _ => Ended(failed with { Failure = $"{failed.Failure} Remove what is left on {row.TargetAgent} by hand." }),
        };
    }

    private async ValueTask PredictAsync(CancellationToken stopping)
    {
        var predicted = await parts.Planner.PredictDowntimeAsync(row, _options, _report.Estimate, stopping);
        _report.NotePrediction(predicted);
        row = row with { PredictedP50Seconds = predicted.P50Seconds, PredictedP90Seconds = predicted.P90Seconds };
    }

    private MigrationRow To(MigrationStep step) => To(step, row);

    private static MigrationRow To(MigrationStep step, MigrationRow basis) => basis with { Step = step, Tries = 0 };

    private MigrationRow Ended() => Ended(row);

    private static MigrationRow Ended(MigrationRow basis) => basis with { State = basis.Cancelled ? JobPhase.Cancelled : JobPhase.Failed };

    /// <summary>Behind the stop: it did not run, and is started nowhere.</summary>
    private bool IsLeftOff => row is { StoppedMs: null, Step: not MigrationStep.Stopping };

    private bool IsBack => row.Step >= MigrationStep.HaltingTarget;

    private static bool IsOnTarget(MigrationStep step) => step == MigrationStep.RemovingSource;
}
