using Google.Protobuf;
using VirtBackup.Catalog;
using VirtBackup.Catalog.Migrations;
using VirtBackup.Controller.Control;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Controller.Migrations;

/// <summary>The job on an agent that a step of a migration needs.</summary>
internal static class MigrationTasks
{
    /// <summary>With the machine standing still, and nothing else to do meanwhile.</summary>
    private static readonly TimeSpan StillPatience = TimeSpan.FromMinutes(5);

    public static Errand For(MigrationRow row, MigrationOptions options)
    {
        var source = row.SourceAgent;
        var target = row.TargetAgent;
        return row.Step switch
        {
            MigrationStep.Checking => Make(row, JobKind.RestoreCheck, target, RestoreOptionsOf(options)) with { PointId = row.PointId },
            MigrationStep.Copying => Make(row, JobKind.Backup, source, new BackupOptions
            {
                ReadBytesPerSecondMax = options.BytesPerSecondMax, Audit = new AuditOptions { Off = true },
            }),
            MigrationStep.LastCopying => Make(row, JobKind.Backup, source, new BackupOptions { SkipQuiesce = true, Audit = new AuditOptions { Off = true } }) with { Patience = StillPatience },
            MigrationStep.Restoring => Make(row, JobKind.Restore, target, RestoreOptionsOf(options)) with { PointId = row.PointId, Patience = options.Cold ? StillPatience : null },
            MigrationStep.Applying => Make(row, JobKind.Restore, target, new RestoreOptions { Placement = RestorePlacement.InPlace }) with { PointId = row.PointId },
            MigrationStep.LastApplying => Make(row, JobKind.Restore, target, new RestoreOptions { Placement = RestorePlacement.InPlace, SkipSample = true }) with { PointId = row.PointId, Patience = StillPatience },
            MigrationStep.Stopping => Make(row, JobKind.StopMachine, source, options.Stop ?? new StopOptions()) with { Patience = StillPatience },
            MigrationStep.Retiring => Make(row, JobKind.RetireMachine, source, new RetireMachineTask()) with { Patience = StillPatience },
            MigrationStep.Starting => Make(row, JobKind.StartMachine, target, new StartMachineTask()) with { Patience = StillPatience },
            MigrationStep.RemovingSource => Make(row, JobKind.RetireMachine, source, new RetireMachineTask { Delete = true }) with { Patience = StillPatience },
            MigrationStep.MovingStorage => Make(row, JobKind.MoveStorage, source, new StorageMoveOptions(options.Storage ?? new StorageMoveOptions())
            {
                // Whoever did not ask for it keeps the old images.
                KeepSource = !options.RemoveSource, BytesPerSecondMax = options.BytesPerSecondMax,
            }),
            MigrationStep.HaltingTarget => Make(row, JobKind.StopMachine, target, new StopOptions { PowerOff = true }),
            MigrationStep.ClearingTarget or MigrationStep.RemovingTarget =>
                Make(row, JobKind.RetireMachine, target, new RetireMachineTask { Delete = true, Folder = options.Restore?.Folder ?? "" }),
            MigrationStep.Reinstating => Make(row, JobKind.RetireMachine, source, new RetireMachineTask { Undo = true }),
            _ => Make(row, JobKind.StartMachine, source, new StartMachineTask()),
        };
    }

    /// <summary>What the target is asked for: the machine itself, off.</summary>
    public static RestoreOptions RestoreOptionsOf(MigrationOptions options) => new(options.Restore ?? new RestoreOptions())
    {
        Adopt = true, KeepIdentity = true, Start = false, Placement = RestorePlacement.Unspecified, Name = "", KeepReplaced = false,
    };

    private static Errand Make(MigrationRow row, JobKind kind, string agent, IMessage options) =>
        new($"migration/{row.MigrationId}/{(int)row.Step}/{row.Round}/{row.Tries}", kind, agent, row.VmId, row.VmName, options.ToByteArray());
}
