using VirtBackup.Catalog;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Protocol.Grpc;
using AgentMessages = VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Controller.Admin;

/// <summary>From rows to what operators' tools are told.</summary>
internal static class AdminMessages
{
    public static Agent ToMessage(AgentRow row, bool connected, int machines)
    {
        var agent = new Agent
        {
            Name = row.Name,
            Connected = connected,
            Revoked = row.RevokedMs is not null,
            Version = row.Version,
            HostName = row.HostName,
            HypervisorKind = row.HypervisorKind,
            EnrollTime = WireText.ToTimestamp(row.EnrolledMs),
            CertificateExpireTime = WireText.ToTimestamp(row.CertificateExpiresMs),
            VirtualMachines = (uint)machines,
        };
        if (row.LastSeenMs > 0)
        {
            agent.LastSeenTime = WireText.ToTimestamp(row.LastSeenMs);
        }
        return agent;
    }

    public static VirtualMachine ToMessage(MachineRow row, int points, long? newestMs)
    {
        var machine = new VirtualMachine
        {
            VmId = row.VmId.ToString(),
            Name = row.Name,
            Agent = row.Agent,
            Running = row.Running,
            Problem = row.Problem,
            Present = row.Present,
            RecoveryPoints = (uint)points,
            LastPointTime = WireText.ToTimestamp(newestMs),
            Peer = row.Peer,
        };
        machine.Disks.Add(row.Disks.Select(static disk => new Disk
        {
            DiskId = disk.DiskId, Name = disk.Name, LengthBytes = (ulong)disk.LengthBytes, Format = disk.Format, SkipReason = disk.SkipReason,
        }));
        return machine;
    }

    public static Protocol.Admin.V1.StoreTraffic? ToMessage(Core.StoreTraffic? traffic) => traffic is not { } counted ? null : new Protocol.Admin.V1.StoreTraffic
    {
        Writes = (ulong)counted.Writes,
        Reads = (ulong)counted.Reads,
        Lookups = (ulong)counted.Lookups,
        Lists = (ulong)counted.Lists,
        Deletions = (ulong)counted.Deletions,
        BytesSent = (ulong)counted.BytesSent,
        BytesReceived = (ulong)counted.BytesReceived,
    };

    public static RecoveryPoint ToMessage(PointRow row)
    {
        var point = new RecoveryPoint
        {
            PointId = row.PointId.ToString(),
            VmId = row.VmId.ToString(),
            VmName = row.VmName,
            CreateTime = WireText.ToTimestamp(row.CreatedMs),
            Sequence = (ulong)row.Sequence,
            Consistency = (Consistency)row.Consistency,
            ConsistencyDetail = row.ConsistencyDetail,
            FrozenMs = (ulong)row.FrozenMs,
            LogicalBytes = (ulong)row.LogicalBytes,
            ReadBytes = (ulong)row.ReadBytes,
            StoredBytes = (ulong)row.StoredBytes,
            BasePointId = WireText.ToText(row.BasePointId),
            HypervisorKind = row.HypervisorKind,
            Forgotten = row.Forgotten,
            Agent = row.Agent,
            Origin = row.Origin.IsEmpty ? null : new PointOrigin { RepositoryId = row.Origin.ToString(), Peer = row.Peer, Sealed = row.Sealed },
            State = row.State is { } state ? new PointState { MemoryBytes = (ulong)state.MemoryBytes, StoredBytes = (ulong)state.StoredBytes, PausedMs = (ulong)state.PausedMs } : null,
        };
        point.Streams.Add(row.Streams.Select(static stream => new PointStream
        {
            StreamId = stream.StreamId, Name = stream.Name, Kind = stream.Kind, LengthBytes = (ulong)stream.LengthBytes, Format = stream.Format,
            ReadBytes = (ulong)stream.ReadBytes, ReadReason = stream.ReadReason,
        }));
        return point;
    }

    /// <param name="row">The job.</param>
    /// <param name="point">The point that a finished backup made, if the catalog has it.</param>
    public static Job ToMessage(JobRow row, PointRow? point) => new()
    {
        JobId = row.JobId.ToString(),
        Kind = ToText(row.Kind),
        State = (JobState)row.State,
        VmId = WireText.ToText(row.VmId),
        VmName = row.VmName,
        Agent = row.Agent,
        PointId = WireText.ToText(row.PointId),
        Attempt = (ulong)row.Attempt,
        Progress = row.Progress.Length > 0 ? Progress.Parser.ParseFrom(row.Progress) : null,
        CreateTime = WireText.ToTimestamp(row.CreatedMs),
        StartTime = WireText.ToTimestamp(row.StartedMs),
        EndTime = WireText.ToTimestamp(row.EndedMs),
        FailureMessage = row.FailureMessage,
        FailureReason = FaultStatus.ToReason(row.FailureReason),
        CancelRequested = row.CancelRequested,
        Result = row.State == JobPhase.Succeeded || row is { Kind: JobKind.Recovery, Result.Length: > 0 } ? ToResult(row, point) : null,
    };

    private static JobResult? ToResult(JobRow row, PointRow? point) => row.Kind switch
    {
        JobKind.Backup => point is null ? null : new JobResult { Backup = ToMade(row, point) },
        JobKind.Restore => new JobResult { Restore = ToRestore(AgentMessages.RestoreResult.Parser.ParseFrom(row.Result)) },
        JobKind.BackupPlan => new JobResult { BackupPlan = BackupPlan.Parser.ParseFrom(row.Result) },
        JobKind.RestoreCheck => new JobResult { RestoreCheck = ToCheck(AgentMessages.CheckRestoreResult.Parser.ParseFrom(row.Result)) },
        JobKind.GroupBackup => new JobResult { GroupBackup = GroupPoint.Parser.ParseFrom(row.Result) },
        JobKind.Scrub => new JobResult { Scrub = ScrubResult.Parser.ParseFrom(row.Result) },
        JobKind.Migration => new JobResult { Migration = MigrationResult.Parser.ParseFrom(row.Result) },
        JobKind.MoveStorage or JobKind.MoveStorageCheck or JobKind.StopMachine or JobKind.StartMachine or JobKind.RetireMachine => null,
        JobKind.MigrationPlan => new JobResult { MigrationPlan = MigrationPlan.Parser.ParseFrom(row.Result) },
        JobKind.Collection => new JobResult { Collection = CollectionResult.Parser.ParseFrom(row.Result) },
        JobKind.Recovery => new JobResult { Recovery = RecoveryResult.Parser.ParseFrom(row.Result) },
        JobKind.Replication => new JobResult { Replication = ReplicationResult.Parser.ParseFrom(row.Result) },
        JobKind.Retention => new JobResult { Retention = RetentionResult.Parser.ParseFrom(row.Result) },
        _ => new JobResult { Verify = VerifyResult.Parser.ParseFrom(row.Result) },
    };

    private static RecoveryPoint ToMade(JobRow row, PointRow point)
    {
        var message = ToMessage(point);
        message.Impact = AgentMessages.BackupResult.Parser.ParseFrom(row.Result).Impact;
        return message;
    }

    private static RestoreResult ToRestore(AgentMessages.RestoreResult result)
    {
        var message = new RestoreResult
        {
            VmId = result.VmId, Name = result.Name, Running = result.Running, BytesWritten = result.BytesWritten,
            BytesCompared = result.BytesCompared, BytesSkipped = result.BytesSkipped, DifferencesTotal = result.DifferencesTotal, DifferencesKnown = result.DifferencesKnown,
            Estimate = result.Estimate,
        };
        message.Details.Add(result.Details);
        message.Differences.Add(result.Differences);
        return message;
    }

    private static RestoreCheck ToCheck(AgentMessages.CheckRestoreResult result)
    {
        var message = new RestoreCheck { Estimate = result.Estimate };
        message.Findings.Add(result.Findings);
        return message;
    }

    private static string ToText(JobKind kind) => kind switch
    {
        JobKind.Backup => "backup",
        JobKind.Restore => "restore",
        JobKind.BackupPlan => "backup-plan",
        JobKind.RestoreCheck => "restore-check",
        JobKind.Retention => "retention",
        JobKind.Collection => "collection",
        JobKind.Scrub => "scrub",
        JobKind.Recovery => "recovery",
        JobKind.MoveStorage => "storage-move",
        JobKind.MoveStorageCheck => "storage-move-check",
        JobKind.StopMachine => "machine-stop",
        JobKind.StartMachine => "machine-start",
        JobKind.RetireMachine => "machine-retire",
        JobKind.Migration => "migration",
        JobKind.MigrationPlan => "migration-plan",
        JobKind.GroupBackup => "group-backup",
        JobKind.Replication => "replication",
        _ => "verify",
    };
}
