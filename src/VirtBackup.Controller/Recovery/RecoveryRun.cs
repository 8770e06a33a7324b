using System.Globalization;
using System.Threading.Channels;
using Google.Protobuf;
using VirtBackup.Catalog;
using VirtBackup.Catalog.Dependencies;
using VirtBackup.Controller.Control;
using VirtBackup.Core;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Controller.Recovery;

/// <summary>
/// One recovery run: check and foretell → restore, and start in order → score. What <see cref="RecoveryOrder"/> decides is stored,
/// then done; the agents' reports say what came of it. Stopped at any point, it is taken up again by another one.
/// </summary>
internal sealed class RecoveryRun(Id16 run, RecoveryPlan plan, RecoveryJobs children, RecoveryRecords records, JobService jobs, TimeProvider time)
{
    private const int MessageCharsMax = 2048;
    private const int FailureCharsMax = 4096;
    private const int ScoresMax = 100;
    private static readonly TimeSpan TellInterval = TimeSpan.FromMilliseconds(500);

    private readonly Channel<(PlannedMachine Machine, JobRow Restore)> _news = Channel.CreateBounded<(PlannedMachine, JobRow)>(256);
    private readonly Dictionary<Id16, JobRow> _restores = [];
    private readonly List<Task> _followers = [];
    private Dictionary<Id16, RecoveryMachineRow> _rows = [];
    private RecoveryOrder _order = null!;
    private string _toldPhase = "";
    private long _toldAt;

    /// <summary>Runs to the end, and ends the run's job.</summary>
    /// <exception cref="FaultException">It could not be begun.</exception>
    public async ValueTask RunAsync(CancellationToken cancellationToken)
    {
        await ForetellAsync(cancellationToken);
        var report = new RecoveryReport(plan, _rows);
        if (plan.DryRun)
        {
            await FinishAsync(report, cancellationToken);
            return;
        }
        await records.AddScoreAsync(new RecoveryScore(run, time.NowMs(), plan.Machines.Count, report.P50.Seconds, report.P90.Seconds, null), cancellationToken);
        using var scope = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        try
        {
            await DriveAsync(scope.Token);
        }
        finally
        {
            await scope.CancelAsync();
            await Task.WhenAll(_followers).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        }
        report = new RecoveryReport(plan, _rows);
        if (report.ActualSeconds is { } actual)
        {
            await records.ScoreAsync(run, actual, cancellationToken);
        }
        await FinishAsync(report, cancellationToken);
    }

    /// <summary>Ends a run's job that was cancelled, and says how far it had come.</summary>
    public async ValueTask CancelAsync(CancellationToken cancellationToken)
    {
        _rows = await records.ListAsync(run, cancellationToken);
        if (_rows.Count < plan.Machines.Count)
        {
            await jobs.FinishAsync(run, JobPhase.Cancelled, [], "", FaultReason.Unspecified, cancellationToken);
            return;
        }
        foreach (var machine in plan.Machines)
        {
            if (_rows[machine.VmId].Step == RecoveryStep.Waiting)
            {
                await SaveAsync(machine, row => row with { Step = RecoveryStep.NotStarted, EndedMs = time.NowMs(), Message = "Neither restored nor started, because the recovery was cancelled." }, cancellationToken);
            }
            else if (_rows[machine.VmId].Step is RecoveryStep.Restoring or RecoveryStep.Restored or RecoveryStep.Starting)
            {
                await SaveAsync(machine, row => row with { Step = RecoveryStep.Failed, EndedMs = time.NowMs(), Message = "Its restore was cancelled with the recovery." }, cancellationToken);
            }
            if (await children.FindRestoreAsync(machine, cancellationToken) is { } restore)
            {
                _restores[machine.VmId] = restore;
            }
        }
        var result = new RecoveryReport(plan, _rows).Describe(_restores, await records.ListScoresAsync(ScoresMax, cancellationToken));
        await jobs.FinishAsync(run, JobPhase.Cancelled, result.ToByteArray(), "", FaultReason.Unspecified, cancellationToken);
    }

    private async ValueTask ForetellAsync(CancellationToken cancellationToken)
    {
        _rows = await records.ListAsync(run, cancellationToken);
        if (_rows.Count == plan.Machines.Count)
        {
            await NoteAsync("taken up again after a restart of the controller", cancellationToken);
            return;
        }
        await TellAsync($"checking {Count(plan.Machines.Count)}", cancellationToken);
        _rows = await new RecoveryPrognosis(run, plan, children, records).MakeAsync(cancellationToken);
        foreach (var machine in plan.Machines)
        {
            await SaveAsync(machine, row => row with { Message = WireText.Shortened(row.Message, MessageCharsMax), EndedMs = row.Step == RecoveryStep.Failed ? time.NowMs() : null }, cancellationToken);
            if (_rows[machine.VmId].Step == RecoveryStep.Failed)
            {
                await NoteAsync($"{machine.VmName}: {_rows[machine.VmId].Message}", cancellationToken);
            }
        }
    }

    private async ValueTask DriveAsync(CancellationToken cancellationToken)
    {
        _order = new RecoveryOrder(
            plan.Ids, plan.Graph, _rows.ToDictionary(static row => row.Key, static row => row.Value.P50), plan.Parallel, _rows.ToDictionary(static row => row.Key, static row => row.Value.Step));
        foreach (var machine in plan.Machines.Where(machine => _rows[machine.VmId].Step is RecoveryStep.Restoring or RecoveryStep.Restored or RecoveryStep.Starting))
        {
            await ResumeAsync(machine, cancellationToken);
        }
        while (true)
        {
            foreach (var command in _order.TakeCommands())
            {
                await DoAsync(command, cancellationToken);
            }
            await SettleBlockedAsync(cancellationToken);
            await TellAsync(PhaseText(), cancellationToken);
            if (_order.IsOver)
            {
                return;
            }
            // A restore that could not even be begun may have made room for another.
            if (_order.HasCommands)
            {
                continue;
            }
            var (machine, restore) = await _news.Reader.ReadAsync(cancellationToken);
            await TakeAsync(machine, restore, cancellationToken);
        }
    }

    private async ValueTask DoAsync(RecoveryCommand command, CancellationToken cancellationToken)
    {
        var machine = plan.Machines.First(machine => machine.VmId == command.VmId);
        switch (command.Kind)
        {
            case RecoveryOrderKind.Restore:
                await SaveAsync(machine, row => row with { Step = RecoveryStep.Restoring, BegunMs = time.NowMs() }, cancellationToken);
                try
                {
                    Follow(machine, await children.RestoreAsync(machine, cancellationToken), cancellationToken);
                    await NoteAsync($"{machine.VmName}: restoring to {machine.Agent}, job {_restores[machine.VmId].JobId}", cancellationToken);
                }
                catch (FaultException refused)
                {
                    await FailAsync(machine, refused.Message, cancellationToken);
                }
                break;
            case RecoveryOrderKind.Start:
                await SaveAsync(machine, row => row with { Step = RecoveryStep.Starting, StartedMs = time.NowMs() }, cancellationToken);
                await children.SetGateAsync(_restores[machine.VmId], StartOrder.Types.Gate.Open, cancellationToken);
                await NoteAsync($"{machine.VmName}: starting", cancellationToken);
                break;
            case RecoveryOrderKind.LeaveOff:
                await children.SetGateAsync(_restores[machine.VmId], StartOrder.Types.Gate.StayOff, cancellationToken);
                break;
        }
    }

    private async ValueTask ResumeAsync(PlannedMachine machine, CancellationToken cancellationToken)
    {
        try
        {
            Follow(machine, await children.FindRestoreAsync(machine, cancellationToken) ?? await children.RestoreAsync(machine, cancellationToken), cancellationToken);
            if (_rows[machine.VmId].Step == RecoveryStep.Starting)
            {
                await children.SetGateAsync(_restores[machine.VmId], StartOrder.Types.Gate.Open, cancellationToken);
            }
        }
        catch (FaultException refused)
        {
            await FailAsync(machine, refused.Message, cancellationToken);
        }
    }

    private async ValueTask TakeAsync(PlannedMachine machine, JobRow restore, CancellationToken cancellationToken)
    {
        _restores[machine.VmId] = restore;
        if (_order.StepOf(machine.VmId) is RecoveryStep.Ready or RecoveryStep.Failed or RecoveryStep.NotStarted)
        {
            return;
        }
        var stage = restore.Progress.Length > 0 ? Progress.Parser.ParseFrom(restore.Progress).StartStage : StartStage.Unspecified;
        if (_order.StepOf(machine.VmId) == RecoveryStep.Restoring && stage != StartStage.Unspecified)
        {
            await SaveAsync(machine, row => row with { Step = RecoveryStep.Restored, RestoredMs = time.NowMs() }, cancellationToken);
            _order.NoteRestored(machine.VmId);
            await NoteAsync($"{machine.VmName}: its disks are whole", cancellationToken);
        }
        if (restore.State is JobPhase.Failed or JobPhase.Cancelled)
        {
            await FailAsync(machine, restore.State == JobPhase.Cancelled ? "Its restore was cancelled." : restore.FailureMessage, cancellationToken);
        }
        else if (restore.State == JobPhase.Succeeded)
        {
            await EndAsync(machine, RestoreResult.Parser.ParseFrom(restore.Result), cancellationToken);
        }
    }

    private async ValueTask EndAsync(PlannedMachine machine, RestoreResult result, CancellationToken cancellationToken)
    {
        switch (_order.StepOf(machine.VmId))
        {
            case RecoveryStep.Starting when result.Running:
                var seconds = double.IsFinite(result.ReadySeconds) ? Math.Max(0, result.ReadySeconds) : 0;
                await SaveAsync(machine, row => row with { Step = RecoveryStep.Ready, EndedMs = time.NowMs(), ReadySeconds = seconds }, cancellationToken);
                _order.NoteReady(machine.VmId);
                await NoteAsync(string.Create(CultureInfo.InvariantCulture, $"{machine.VmName}: ready after {seconds:0.0} s ({machine.ProbeText})"), cancellationToken);
                break;
            case RecoveryStep.Restored when _order.BlockerOf(machine.VmId) is { } blocker:
                await SaveAsync(machine, row => row with { Step = RecoveryStep.NotStarted, EndedMs = time.NowMs(), Message = $"Its disks are whole; it was not started, because it needs {plan.NameOf(blocker)}, which is not ready." }, cancellationToken);
                _order.NoteLeftOff(machine.VmId);
                await NoteAsync($"{machine.VmName}: {_rows[machine.VmId].Message}", cancellationToken);
                break;
            default:
                await FailAsync(machine, "Its agent ended the restore without starting it.", cancellationToken);
                break;
        }
    }

    private async ValueTask FailAsync(PlannedMachine machine, string message, CancellationToken cancellationToken)
    {
        await SaveAsync(machine, row => row with { Step = RecoveryStep.Failed, EndedMs = time.NowMs(), Message = WireText.Shortened(message, MessageCharsMax) }, cancellationToken);
        _order.NoteFailed(machine.VmId);
        await NoteAsync($"{machine.VmName}: failed. {message}", cancellationToken);
    }

    // What was not begun when something that it needs failed.
    private async ValueTask SettleBlockedAsync(CancellationToken cancellationToken)
    {
        foreach (var machine in plan.Machines.Where(machine => _order.StepOf(machine.VmId) == RecoveryStep.NotStarted && _rows[machine.VmId].Step == RecoveryStep.Waiting))
        {
            var blocker = plan.NameOf(_order.BlockerOf(machine.VmId)!.Value);
            await SaveAsync(machine, row => row with { Step = RecoveryStep.NotStarted, EndedMs = time.NowMs(), Message = $"Neither restored nor started, because it needs {blocker}, which is not ready." }, cancellationToken);
            await NoteAsync($"{machine.VmName}: {_rows[machine.VmId].Message}", cancellationToken);
        }
    }

    private async ValueTask FinishAsync(RecoveryReport report, CancellationToken cancellationToken)
    {
        var result = report.Describe(_restores, await records.ListScoresAsync(ScoresMax, cancellationToken)).ToByteArray();
        var bad = plan.Machines.Where(machine => _rows[machine.VmId].Step != (plan.DryRun ? RecoveryStep.Waiting : RecoveryStep.Ready)).ToList();
        if (bad.Count == 0)
        {
            await jobs.FinishAsync(run, JobPhase.Succeeded, result, "", FaultReason.Unspecified, cancellationToken);
            return;
        }
        var text = string.Join(" ", bad.Select(machine => $"{machine.VmName}: {_rows[machine.VmId].Message}"));
        var head = plan.DryRun ? $"{Count(bad.Count)} could not be restored as asked." : $"{plan.Machines.Count - bad.Count} of {Count(plan.Machines.Count)} {(plan.Machines.Count - bad.Count == 1 ? "is" : "are")} ready.";
        await jobs.FinishAsync(run, JobPhase.Failed, result, WireText.Shortened($"{head} {text}", FailureCharsMax), FaultReason.Incomplete, cancellationToken);
    }

    private void Follow(PlannedMachine machine, JobRow restore, CancellationToken cancellationToken)
    {
        _restores[machine.VmId] = restore;
        _followers.Add(FollowAsync(machine, restore.JobId, cancellationToken));
    }

    private async Task FollowAsync(PlannedMachine machine, Id16 restore, CancellationToken cancellationToken)
    {
        await Task.Yield();
        try
        {
            await foreach (var news in jobs.WatchAsync(restore, cancellationToken))
            {
                await _news.Writer.WriteAsync((machine, news), cancellationToken);
            }
        }
        catch (Exception failure) when (failure is not OperationCanceledException)
        {
            // Whoever waits for news must not wait for ever.
            _news.Writer.TryComplete(failure);
            throw;
        }
    }

    private async ValueTask SaveAsync(PlannedMachine machine, Func<RecoveryMachineRow, RecoveryMachineRow> change, CancellationToken cancellationToken)
    {
        var row = change(_rows[machine.VmId]);
        if (!plan.DryRun)
        {
            await records.SaveAsync(row, cancellationToken);
        }
        _rows[machine.VmId] = row;
    }

    private string PhaseText()
    {
        int Of(RecoveryStep step) => plan.Ids.Count(machine => _order.StepOf(machine) == step);
        (int Count, string What)[] parts =
        [
            (Of(RecoveryStep.Restoring), "restoring"), (Of(RecoveryStep.Restored), "waiting"), (Of(RecoveryStep.Starting), "starting"),
            (Of(RecoveryStep.Failed) + Of(RecoveryStep.NotStarted), "failed"),
        ];
        return string.Join(", ", parts.Where(static part => part.Count > 0).Select(static part => $"{part.Count} {part.What}").Prepend($"{Of(RecoveryStep.Ready)} of {plan.Machines.Count} ready"));
    }

    // Every restore's news would otherwise have all of them added up.
    private async ValueTask TellAsync(string phase, CancellationToken cancellationToken)
    {
        if (phase == _toldPhase && time.GetElapsedTime(_toldAt) < TellInterval)
        {
            return;
        }
        (_toldPhase, _toldAt) = (phase, time.GetTimestamp());
        var progress = new Progress { Phase = phase };
        foreach (var restore in _restores.Values.Where(static restore => restore.Progress.Length > 0))
        {
            var part = Progress.Parser.ParseFrom(restore.Progress);
            (progress.BytesTotal, progress.BytesDone, progress.BytesSent) = (progress.BytesTotal + part.BytesTotal, progress.BytesDone + part.BytesDone, progress.BytesSent + part.BytesSent);
        }
        await jobs.ProgressAsync(run, progress.ToByteArray(), cancellationToken);
    }

    private ValueTask NoteAsync(string text, CancellationToken cancellationToken) => jobs.NoteAsync(run, text, cancellationToken);

    private static string Count(int machines) => machines == 1 ? "1 machine" : $"{machines} machines";
}
