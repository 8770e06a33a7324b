using Grpc.Core;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Protocol.Grpc;

namespace VirtBackup.Cli.Tests.Fixtures;

/// <summary>web1 went from host-1 to host-2, and its disks to another folder.</summary>
internal sealed class FakeMigrations(FakeAdmin admin) : MigrationService.MigrationServiceBase
{
    public static MigrationResult Result => new()
    {
        Rounds =
        {
            new MigrationRound { Number = 0, PointId = FakeAdmin.PointId, BytesRead = 3UL << 30, BytesWritten = 3UL << 30, BackupSeconds = 30, ApplySeconds = 25 },
            new MigrationRound { Number = 1, PointId = FakeAdmin.PointId, BytesRead = 20 << 20, BytesWritten = 16 << 20, BackupSeconds = 2, ApplySeconds = 1, Last = true },
        },
        BytesRead = 3UL << 30, BytesWritten = 3UL << 30, ElapsedSeconds = 70, DowntimeSeconds = 9, Interruption = With(Interruption, static estimate => estimate.ActualSeconds = 9),
        Where = "/srv/m/web1", SourceKept = true, Notes = { "The guest's agent did not answer." },
    };

    private static Migration OverHosts => new()
    {
        MigrationId = FakeAdmin.JobId, VmId = FakeAdmin.VmId, VmName = "web1", SourceAgent = "host-1", TargetAgent = "host-2", State = JobState.Succeeded, Step = "done", Options = new MigrationOptions { Cold = true },
        CreateTime = FakeRetention.Noon, EndTime = FakeRetention.Noon, SourceCopy = "retired", TargetCopy = "running", Result = Result,
    };

    private static Migration OfDisks => new(OverHosts) { TargetAgent = "host-1", Options = new MigrationOptions(), SourceCopy = "running", TargetCopy = "none", Result = null, State = JobState.Failed, FailureMessage = "The folder is full." };

    private static InterruptionEstimate Interruption => new() { P50Seconds = 8, P90Seconds = 14, JudgedBy = 4, Record = new EstimateRecord { Scored = 4, WithinP50 = 2, WithinP90 = 4, MedianError = 0.12 } };

    public static MigrationPlan Plan(bool isPossible) => new()
    {
        SourceAgent = "host-1", TargetAgent = "host-2", Interruption = Interruption, LastIncrementBytes = 20 << 20,
        Findings =
        {
            isPossible ? new RestoreFinding { Item = "memory", Severity = RestoreFinding.Types.Severity.Fits, Message = "enough" }
                : new RestoreFinding { Item = "folder", Severity = RestoreFinding.Types.Severity.Blocks, Message = "holds something" },
        },
        Storage = new StorageMoveCheck { Disks = { new MovedDisk { Name = "vda", OldPath = "/srv/old/vda.qcow2", NewPath = "/srv/new/vda.qcow2", Format = "qcow2", LengthBytes = 3UL << 30 } } },
    };

    public override Task<StartMigrationResponse> StartMigration(StartMigrationRequest request, ServerCallContext context) =>
        admin.Answer(request, new StartMigrationResponse { Job = admin.Started("migration", FakeAdmin.Machine) });

    public override Task<StartMigrationPlanResponse> StartMigrationPlan(StartMigrationPlanRequest request, ServerCallContext context) =>
        admin.Answer(request, new StartMigrationPlanResponse { Job = admin.Started("migration-plan", FakeAdmin.Machine) });

    /// <summary>Two pages.</summary>
    public override Task<ListMigrationsResponse> ListMigrations(ListMigrationsRequest request, ServerCallContext context) => admin.Answer(request, request.PageToken.Length == 0
        ? new ListMigrationsResponse { Migrations = { OverHosts }, NextPageToken = "more" }
        : new ListMigrationsResponse { Migrations = { OfDisks } });

    public override Task<GetMigrationResponse> GetMigration(GetMigrationRequest request, ServerCallContext context) => request.MigrationId switch
    {
        "77aa" => admin.Answer(request, new GetMigrationResponse { Migration = OverHosts }),
        "disks" => admin.Answer(request, new GetMigrationResponse { Migration = OfDisks }),
        _ => throw FaultStatus.ToRpc(new FaultException(FaultReason.NotFound, $"There is no migration '{request.MigrationId}'.")),
    };

    public override Task<RemoveMigratedSourceResponse> RemoveMigratedSource(RemoveMigratedSourceRequest request, ServerCallContext context) =>
        admin.Answer(request, new RemoveMigratedSourceResponse { Job = admin.Started("migration", FakeAdmin.Machine) });

    private static T With<T>(T message, Action<T> change)
    {
        change(message);
        return message;
    }
}
