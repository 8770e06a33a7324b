using VirtBackup.Catalog;
using VirtBackup.Catalog.Dependencies;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using WireLeg = VirtBackup.Protocol.Admin.V1.RecoveryLeg;

namespace VirtBackup.Controller.Recovery;

/// <summary>What a recovery run does, or did, for operators' tools.</summary>
internal sealed class RecoveryReport(RecoveryPlan plan, IReadOnlyDictionary<Id16, RecoveryMachineRow> rows)
{
    private const int RecordMax = 50;

    /// <summary>When all take what half of them take.</summary>
    public RecoveryForecast P50 { get; } = RecoveryForecast.Make(plan.Ids, plan.Graph, rows.ToDictionary(static row => row.Key, static row => row.Value.P50), plan.Parallel);

    /// <summary>When all take what nine of ten keep to.</summary>
    public RecoveryForecast P90 { get; } = RecoveryForecast.Make(plan.Ids, plan.Graph, rows.ToDictionary(static row => row.Key, static row => row.Value.P90), plan.Parallel);

    /// <summary>From the first restore's begin to the last machine's readiness, seconds; null: not every machine is ready.</summary>
    public double? ActualSeconds => rows.Values.All(static row => row is { Step: RecoveryStep.Ready, BegunMs: not null })
        ? (rows.Values.Max(static row => row.EndedMs!.Value) - rows.Values.Min(static row => row.BegunMs!.Value)) / 1e3 : null;

    /// <param name="restores">The restores that were begun.</param>
    /// <param name="scores">Of the last runs, newest first.</param>
    public RecoveryResult Describe(IReadOnlyDictionary<Id16, JobRow> restores, IReadOnlyList<RecoveryScore> scores)
    {
        var result = new RecoveryResult
        {
            DryRun = plan.DryRun, Parallel = (uint)plan.Parallel, PredictedSeconds = P50.Seconds, PredictedP90Seconds = P90.Seconds, Record = RecordOf(scores),
        };
        result.PredictedPath.Add(P50.CriticalPath.Select(ToMessage));
        if (ActualSeconds is { } actual)
        {
            var took = RecoveryForecast.Make(plan.Ids, plan.Graph, rows.ToDictionary(static row => row.Key, static row => Took(row.Value)), plan.Parallel);
            (result.ActualSeconds, result.PathSeconds) = (actual, took.Seconds);
            result.ActualPath.Add(took.CriticalPath.Select(ToMessage));
        }
        foreach (var (number, stage) in plan.Graph.Stages(plan.Ids).Index())
        {
            result.Machines.Add(plan.Machines.Where(machine => stage.Contains(machine.VmId)).OrderBy(static machine => machine.VmName, StringComparer.Ordinal)
                .Select(machine => Describe(machine, rows[machine.VmId], (uint)number + 1, restores.GetValueOrDefault(machine.VmId))));
        }
        return result;
    }

    private RecoveredMachine Describe(PlannedMachine machine, RecoveryMachineRow row, uint stage, JobRow? restore)
    {
        var took = Took(row);
        var message = new RecoveredMachine
        {
            VmId = machine.VmId.ToString(), VmName = machine.VmName, PointId = machine.PointId.ToString(), PointTime = WireText.ToTimestamp(machine.PointMs), Agent = machine.Agent,
            Stage = stage, Probe = machine.ProbeText, State = StateOf(row.Step), Message = row.Message, JobId = restore?.JobId.ToString() ?? "",
            RestoreP50Seconds = row.P50.RestoreSeconds, RestoreP90Seconds = row.P90.RestoreSeconds, ReadyP50Seconds = row.P50.ReadySeconds, ReadyP90Seconds = row.P90.ReadySeconds,
            ReadyJudgedBy = (uint)row.JudgedBy, RestoreSeconds = took.RestoreSeconds, ReadySeconds = took.ReadySeconds,
            WaitSeconds = row is { RestoredMs: { } restored, StartedMs: { } started } ? (started - restored) / 1e3 : 0,
        };
        message.Needs.Add(machine.Needs.Select(plan.NameOf).Order(StringComparer.Ordinal));
        return message;
    }

    // Of a machine that did not come so far: nothing.
    private static RecoveryDurations Took(RecoveryMachineRow row) => new(
        row is { BegunMs: { } begun, RestoredMs: { } restored } ? (restored - begun) / 1e3 : 0,
        row is { Step: RecoveryStep.Ready, StartedMs: { } started, EndedMs: { } ended } ? (ended - started) / 1e3 : 0);

    private WireLeg ToMessage(Catalog.Dependencies.RecoveryLeg leg) =>
        new() { VmName = plan.NameOf(leg.VmId), Start = leg.IsStart, BeginSeconds = leg.BeginSeconds, EndSeconds = leg.EndSeconds };

    private static RecoveryRecord RecordOf(IReadOnlyList<RecoveryScore> scores)
    {
        var last = scores.Where(static score => score.ActualSeconds is not null).Take(RecordMax).ToArray();
        var errors = last.Select(static score => Math.Abs((score.ActualSeconds!.Value / Math.Max(score.P50Seconds, 1e-3)) - 1)).Order().ToArray();
        return new RecoveryRecord
        {
            Scored = (uint)last.Length, WithinP50 = (uint)last.Count(static score => score.ActualSeconds <= score.P50Seconds),
            WithinP90 = (uint)last.Count(static score => score.ActualSeconds <= score.P90Seconds), MedianError = errors.Length > 0 ? errors[errors.Length / 2] : 0,
        };
    }

    private static RecoveredMachine.Types.State StateOf(RecoveryStep step) => step switch
    {
        RecoveryStep.Restoring => RecoveredMachine.Types.State.Restoring,
        RecoveryStep.Restored => RecoveredMachine.Types.State.Waiting,
        RecoveryStep.Starting => RecoveredMachine.Types.State.Starting,
        RecoveryStep.Ready => RecoveredMachine.Types.State.Ready,
        RecoveryStep.Failed => RecoveredMachine.Types.State.Failed,
        RecoveryStep.NotStarted => RecoveredMachine.Types.State.NotStarted,
        _ => RecoveredMachine.Types.State.Planned,
    };
}
