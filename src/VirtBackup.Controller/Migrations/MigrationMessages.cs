using VirtBackup.Catalog;
using VirtBackup.Catalog.Migrations;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Controller.Migrations;

internal static class MigrationMessages
{
    public static Migration ToMessage(MigrationRow row) => new()
    {
        MigrationId = row.MigrationId.ToString(),
        VmId = row.VmId.ToString(),
        VmName = row.VmName,
        SourceAgent = row.SourceAgent,
        TargetAgent = row.TargetAgent,
        Step = row.State == JobPhase.Running ? MigrationReport.PhaseOf(row) : "",
        State = row.State switch
        {
            JobPhase.Succeeded => JobState.Succeeded,
            JobPhase.Failed => JobState.Failed,
            JobPhase.Cancelled => JobState.Cancelled,
            _ => JobState.Running,
        },
        Options = MigrationOptions.Parser.ParseFrom(row.Options),
        CreateTime = WireText.ToTimestamp(row.CreatedMs),
        EndTime = WireText.ToTimestamp(row.EndedMs),
        FailureMessage = row.Failure,
        Result = row.Result.Length > 0 ? MigrationResult.Parser.ParseFrom(row.Result) : null,
        SourceCopy = SourceOf(row),
        TargetCopy = TargetOf(row),
    };

    private static string SourceOf(MigrationRow row) =>
        row.SourceAgent == row.TargetAgent || row.State is JobPhase.Failed or JobPhase.Cancelled ? "running"
        : row.SourceRemoved ? "removed"
        : row.State == JobPhase.Succeeded ? "retired"
        : row.Step switch
        {
            MigrationStep.Starting or MigrationStep.RemovingSource or MigrationStep.HaltingTarget or MigrationStep.ClearingTarget => "retired",
            MigrationStep.LastCopying or MigrationStep.LastApplying or MigrationStep.Retiring or MigrationStep.Reinstating or MigrationStep.RestartingSource => "stopped",
            MigrationStep.Restoring when row.StoppedMs is not null => "stopped",
            _ => "running",
        };

    private static string TargetOf(MigrationRow row) =>
        row.SourceAgent == row.TargetAgent || row.State is JobPhase.Failed or JobPhase.Cancelled ? "none"
        : row.State == JobPhase.Succeeded || row.Step == MigrationStep.RemovingSource ? row.StoppedMs is null ? "stopped" : "running"
        : row.Step switch
        {
            MigrationStep.Checking => "none",
            MigrationStep.Copying when row.Round == 0 => "none",
            MigrationStep.Stopping or MigrationStep.LastCopying when row.Round == 0 => "none",
            MigrationStep.Restoring => "incomplete",
            _ => "stopped",
        };
}
