using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Views;

/// <param name="Stage">1: needs no other machine of the run.</param>
/// <param name="ReadyP50Seconds">From its start to readiness.</param>
/// <param name="ReadyJudgedBy">Former starts of this machine.</param>
/// <param name="RestoreSeconds">Null: it did not come to that.</param>
/// <param name="WaitSeconds">With whole disks, for what it needs.</param>
internal sealed record RecoveredMachineView(
    string VmId, string Vm, string PointId, DateTimeOffset? PointTime, string Agent, uint Stage, IReadOnlyList<string> Needs, string Probe, string State, string? Message, string? JobId,
    double RestoreP50Seconds, double RestoreP90Seconds, double ReadyP50Seconds, double ReadyP90Seconds, uint ReadyJudgedBy, double? RestoreSeconds, double? WaitSeconds, double? ReadySeconds)
{
    public static RecoveredMachineView Of(RecoveredMachine machine) => new(
        machine.VmId, machine.VmName, machine.PointId, WireNames.Of(machine.PointTime), machine.Agent, machine.Stage, [.. machine.Needs], machine.Probe,
        Output.SnakeCase.Of(machine.State.ToString()), WireNames.TextOrNull(machine.Message), WireNames.TextOrNull(machine.JobId), machine.RestoreP50Seconds, machine.RestoreP90Seconds,
        machine.ReadyP50Seconds, machine.ReadyP90Seconds, machine.ReadyJudgedBy, OrNull(machine.RestoreSeconds), OrNull(machine.WaitSeconds), OrNull(machine.ReadySeconds));

    private static double? OrNull(double seconds) => seconds > 0 ? seconds : null;
}

/// <param name="Start">From the start to readiness; otherwise the restore of its disks.</param>
internal sealed record RecoveryLegView(string Vm, bool Start, double BeginSeconds, double EndSeconds)
{
    public static RecoveryLegView Of(RecoveryLeg leg) => new(leg.VmName, leg.Start, leg.BeginSeconds, leg.EndSeconds);
}

/// <param name="Parallel">Null: no limit.</param>
/// <param name="ActualSeconds">Null: nothing was restored, or not every machine became ready.</param>
/// <param name="PathSeconds">Of the critical path, with what each machine really took.</param>
internal sealed record RecoveryView(
    bool DryRun, IReadOnlyList<RecoveredMachineView> Machines, uint? Parallel, double PredictedSeconds, double PredictedP90Seconds, IReadOnlyList<RecoveryLegView> PredictedPath,
    double? ActualSeconds, double? PathSeconds, IReadOnlyList<RecoveryLegView> ActualPath, EstimateRecordView Record)
{
    public static RecoveryView Of(RecoveryResult result) => new(
        result.DryRun, [.. result.Machines.Select(RecoveredMachineView.Of)], result.Parallel > 0 ? result.Parallel : null, result.PredictedSeconds, result.PredictedP90Seconds,
        [.. result.PredictedPath.Select(RecoveryLegView.Of)], result.ActualSeconds > 0 ? result.ActualSeconds : null, result.ActualSeconds > 0 ? result.PathSeconds : null,
        [.. result.ActualPath.Select(RecoveryLegView.Of)], EstimateRecordView.Of(result.Record));

    /// <summary>The exit code when not all went as asked.</summary>
    public int FailureCode() => DryRun ? ExitCode.Refused : Machines.Any(static machine => machine.State == "ready") ? ExitCode.Partial : ExitCode.Failed;
}

/// <param name="ActualSeconds">Null: it is not over, or not every machine became ready.</param>
internal sealed record RecoveryRunView(string JobId, DateTimeOffset? CreateTime, uint VirtualMachines, double PredictedSeconds, double PredictedP90Seconds, double? ActualSeconds)
{
    public static RecoveryRunView Of(PastRecovery run) => new(
        run.JobId, WireNames.Of(run.CreateTime), run.VirtualMachines, run.PredictedSeconds, run.PredictedP90Seconds, run.ActualSeconds > 0 ? run.ActualSeconds : null);
}
