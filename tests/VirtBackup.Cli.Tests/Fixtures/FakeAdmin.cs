using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Protocol.Grpc;

namespace VirtBackup.Cli.Tests.Fixtures;

/// <summary>One agent, one machine, one recovery point, and jobs that are over at once unless they are told to stay.</summary>
internal sealed class FakeAdmin : AdminService.AdminServiceBase
{
    public const string VmId = "8c8f0f0e000000000000000000000001";
    public const string PointId = "ab12cd34ef560000000000000000000f";
    public const string JobId = "77aa55bb11220000000000000000000c";

    private static DamagedRange Range => new() { PointId = PointId, VmName = "web1", StreamName = "vda", Offset = 1 << 20, Length = 4096 };

    private static readonly Timestamp Noon = Timestamp.FromDateTimeOffset(new DateTimeOffset(2031, 5, 4, 12, 0, 0, TimeSpan.Zero));

    private readonly TaskCompletionSource _cancelled = new();

    /// <summary>Every request that came.</summary>
    public List<object> Requests { get; } = [];

    /// <summary>Jobs stay running until they are cancelled.</summary>
    public bool JobsStay { get; set; }

    /// <summary>Completed when a client watches.</summary>
    public TaskCompletionSource Watched { get; } = new();

    public VerifyResult Verification { get; set; } = new() { Objects = 3, Bytes = 4096, Records = 7 };

    public bool TimeIsUnconfirmed { get; set; }

    /// <summary>One pack lost a chunk of the one point.</summary>
    public bool IsDamaged { get; set; }

    /// <summary>The machine's last run was unusual.</summary>
    public bool IsFlagged { get; set; }

    /// <summary>Where the one point was made; null: here.</summary>
    public PointOrigin? Origin { get; set; }

    public bool IsRecoveryPlan { get; set; }

    /// <summary>Something stands in the way of the migration that is planned.</summary>
    public bool IsMigrationBlocked { get; set; }

    /// <summary>What audits of the machine's change tracking found; null: there was none.</summary>
    public TrackingAudit? Audit { get; set; }

    public (ErrorReason Reason, string Message)? Failure { get; set; }

    public static Agent Agent => new() { Name = "host-1", Connected = true, Version = "1.2.3", HostName = "host", HypervisorKind = "qemu", EnrollTime = Noon, LastSeenTime = Noon, CertificateExpireTime = Noon, VirtualMachines = 1 };

    public static VirtualMachine Machine => new()
    {
        VmId = VmId, Name = "web1", Agent = "host-1", Running = true, Present = true, RecoveryPoints = 1, LastPointTime = Noon, Retention = FakeRetention.Machine,
        Disks = { new Disk { DiskId = "d1", Name = "vda", LengthBytes = 3UL << 30, Format = "qcow2" }, new Disk { DiskId = "d2", Name = "swap0", LengthBytes = 1 << 20, SkipReason = "excluded" } },
    };

    public static RecoveryPoint Point => new()
    {
        PointId = PointId, VmId = VmId, VmName = "web1", CreateTime = Noon, Sequence = 1, Consistency = Consistency.Filesystem, LogicalBytes = 3UL << 30,
        ReadBytes = 1 << 30, StoredBytes = 400 << 20, HypervisorKind = "qemu", Agent = "host-1", Retention = FakeRetention.Point, Streams = { new PointStream { StreamId = "s1", Name = "vda", Kind = "disk", LengthBytes = 3UL << 30, ReadBytes = 1 << 30 } },
    };

    private static MachineRun Run => new()
    {
        PointId = PointId, EndTime = Noon, LogicalBytes = 3UL << 30, NewBytes = 30 << 20, StoredBytes = 12 << 20, NewShare = 0.01, StoredShare = 0.4, UsualNewShare = 0.008,
        UsualStoredShare = 0.45, Verdict = RunVerdict.Usual,
    };

    public T Request<T>() => Requests.OfType<T>().Last();

    public override Task<GetStatusResponse> GetStatus(GetStatusRequest request, ServerCallContext context) => Answer(request, new GetStatusResponse
    {
        Version = "1.2.3", RepositoryId = VmId, RepositoryLocation = "/srv/backup", StoredBytes = 5 << 20, AgentsConnected = 1, AgentsEnrolled = 2, VirtualMachines = 1,
        RecoveryPoints = 1, Chunks = 40, Packs = 2, Generation = 9, StartTime = Noon, TrustedTime = Noon, TimeUnconfirmed = TimeIsUnconfirmed,
        Proof = new RepositoryProof { Bytes = 5 << 20, ProvenBytes = 4 << 20, Days = 30, OldestTime = Noon, CycleTime = Noon, DamagesOpen = IsDamaged ? 1UL : 0, PointsDamaged = IsDamaged ? 1UL : 0 },
        Collection = new RepositoryCollection { FinishTime = Noon, AuditTime = Noon, AuditProblem = IsDamaged ? "3 objects are counted too seldom." : "", Problem = IsDamaged ? "Nothing is deleted." : "" },
    });

    public override Task<CreateJoinTokenResponse> CreateJoinToken(CreateJoinTokenRequest request, ServerCallContext context) =>
        Answer(request, new CreateJoinTokenResponse { JoinToken = "vbjoin1.TOKEN", ExpireTime = Noon });

    public override Task<ListAgentsResponse> ListAgents(ListAgentsRequest request, ServerCallContext context) => Answer(request, new ListAgentsResponse { Agents = { Agent } });

    public override Task<RevokeAgentResponse> RevokeAgent(RevokeAgentRequest request, ServerCallContext context) =>
        Answer(request, new RevokeAgentResponse { Agent = request.Name == "host-1" ? With(Agent, static agent => agent.Revoked = true) : throw Missing("agent", request.Name) });

    public override Task<ListVirtualMachinesResponse> ListVirtualMachines(ListVirtualMachinesRequest request, ServerCallContext context) =>
        Answer(request, new ListVirtualMachinesResponse { VirtualMachines = { IsFlagged ? With(Machine, static machine => machine.FlaggedRuns = 1) : With(Machine, machine => (machine.Present, machine.Peer) = (Origin is null, Origin?.Peer ?? "")) } });

    public override Task<GetVirtualMachineResponse> GetVirtualMachine(GetVirtualMachineRequest request, ServerCallContext context) =>
        Answer(request, new GetVirtualMachineResponse
        {
            VirtualMachine = IsFlagged ? With(Known(request.Vm), static machine => machine.FlaggedRuns = 1) : Known(request.Vm), RecentJobs = { JobOf("backup") },
            RecentRuns =
            {
                With(Run, run =>
                {
                    if (IsFlagged)
                    {
                        (run.NewBytes, run.NewShare, run.StoredShare, run.Verdict, run.Explanation) = (2UL << 30, 0.66, 1.0, RunVerdict.Abnormal, "66 % of the machine was new data.");
                    }
                }),
                Run,
            },
            TrackingAudit = Audit,
        });

    public override Task<AcceptRunsResponse> AcceptRuns(AcceptRunsRequest request, ServerCallContext context) =>
        Answer(request, new AcceptRunsResponse { VmName = Known(request.Vm).Name, RunsAccepted = 1, HoldsReleased = 4 });

    /// <summary>Two pages.</summary>
    public override Task<ListRecoveryPointsResponse> ListRecoveryPoints(ListRecoveryPointsRequest request, ServerCallContext context) =>
        Answer(request, request.PageToken.Length == 0
            ? new ListRecoveryPointsResponse { RecoveryPoints = { With(Point, point => (point.Damaged, point.Origin) = (IsDamaged, Origin)) }, NextPageToken = "more" }
            : new ListRecoveryPointsResponse { RecoveryPoints = { With(Point, static point => (point.PointId, point.Sequence) = (VmId, 0)) } });

    public override Task<GetRecoveryPointResponse> GetRecoveryPoint(GetRecoveryPointRequest request, ServerCallContext context) =>
        Answer(request, new GetRecoveryPointResponse { RecoveryPoint = request.Point == "web1@latest" ? With(Point, point =>
        {
            (point.Damaged, point.Origin) = (IsDamaged, Origin);
            point.DamagedRanges.Add(IsDamaged ? [Range] : []);
        }) : throw Missing("recovery point", request.Point) });

    public override Task<ForgetRecoveryPointResponse> ForgetRecoveryPoint(ForgetRecoveryPointRequest request, ServerCallContext context) =>
        Answer(request, new ForgetRecoveryPointResponse { RecoveryPoint = With(Point, point => point.Forgotten = !request.Undo) });

    public override Task<StartBackupResponse> StartBackup(StartBackupRequest request, ServerCallContext context) =>
        Answer(request, new StartBackupResponse { Job = Started("backup", Known(request.Vm)) });

    public override Task<StartBackupPlanResponse> StartBackupPlan(StartBackupPlanRequest request, ServerCallContext context) =>
        Answer(request, new StartBackupPlanResponse { Job = Started("backup-plan", Known(request.Vm)) });

    public override Task<StartRestoreResponse> StartRestore(StartRestoreRequest request, ServerCallContext context) => Answer(request, new StartRestoreResponse { Job = Started("restore", Machine) });

    public override Task<StartRestoreCheckResponse> StartRestoreCheck(StartRestoreCheckRequest request, ServerCallContext context) =>
        Answer(request, new StartRestoreCheckResponse { Job = Started("restore-check", Machine) });

    public override Task<StartCollectionResponse> StartCollection(StartCollectionRequest request, ServerCallContext context) =>
        Answer(request, new StartCollectionResponse { Job = Started("collection", Machine) });

    public override Task<StartScrubResponse> StartScrub(StartScrubRequest request, ServerCallContext context) => Answer(request, new StartScrubResponse { Job = Started("scrub", Machine) });

    /// <summary>Two pages.</summary>
    public override Task<ListDamagesResponse> ListDamages(ListDamagesRequest request, ServerCallContext context) => Answer(request, request.PageToken.Length > 0
        ? new ListDamagesResponse { Damages = { request.IncludeHealed ? [new FoundDamage { Object = "packs/22", Problem = "The pack is missing.", FoundTime = Noon, HealedTime = Noon }] : Array.Empty<FoundDamage>() } }
        : new ListDamagesResponse { NextPageToken = "more", Damages = { IsDamaged ? [new FoundDamage { Object = "packs/11", Problem = "Some bytes have changed.", FoundTime = Noon, Ranges = { Range } }] : Array.Empty<FoundDamage>() } });

    public override Task<StartVerifyResponse> StartVerify(StartVerifyRequest request, ServerCallContext context) => Answer(request, new StartVerifyResponse { Job = Started("verify", Machine) });

    public override Task<ListJobsResponse> ListJobs(ListJobsRequest request, ServerCallContext context) => Answer(request, new ListJobsResponse { Jobs = { JobOf("backup"), JobOf("verify") } });

    public override Task<GetJobResponse> GetJob(GetJobRequest request, ServerCallContext context) =>
        Answer(request, new GetJobResponse { Job = JobId.StartsWith(request.JobId, StringComparison.Ordinal) ? JobOf("backup") : throw Missing("job", request.JobId) });

    public override async Task WatchJob(WatchJobRequest request, IServerStreamWriter<WatchJobResponse> stream, ServerCallContext context)
    {
        var kind = _kind;
        await stream.WriteAsync(new WatchJobResponse { Job = Started(kind, Machine) }, context.CancellationToken);
        Watched.TrySetResult();
        if (JobsStay)
        {
            await _cancelled.Task.WaitAsync(context.CancellationToken);
        }
        await stream.WriteAsync(new WatchJobResponse { Job = JobOf(kind) }, context.CancellationToken);
    }

    public override Task<CancelJobResponse> CancelJob(CancelJobRequest request, ServerCallContext context)
    {
        _cancelled.TrySetResult();
        return Answer(request, new CancelJobResponse { Job = With(Started("backup", Machine), static job => job.CancelRequested = true) });
    }

    public override Task<GetJobLogResponse> GetJobLog(GetJobLogRequest request, ServerCallContext context) =>
        Answer(request, new GetJobLogResponse { Lines = { new LogLine { Time = Noon, Text = "frozen for 3 ms" } } });

    private string _kind = "backup";

    internal Task<T> Answer<T>(object request, T response)
    {
        lock (Requests)
        {
            Requests.Add(request);
        }
        return Task.FromResult(response);
    }

    internal Job Started(string kind, VirtualMachine machine)
    {
        _kind = kind;
        return new Job
        {
            JobId = JobId, Kind = kind, State = JobState.Running, VmId = machine.VmId, VmName = machine.Name, Agent = machine.Agent, Attempt = 1, CreateTime = Noon, StartTime = Noon,
            Progress = new Progress { Phase = "reading", BytesTotal = 100, BytesDone = 40 },
        };
    }

    private Job JobOf(string kind)
    {
        var job = Started(kind, Machine);
        job.EndTime = Timestamp.FromDateTimeOffset(Noon.ToDateTimeOffset().AddSeconds(8));
        job.State = _cancelled.Task.IsCompleted ? JobState.Cancelled : Failure is null ? JobState.Succeeded : JobState.Failed;
        if (Failure is { } failure)
        {
            (job.FailureReason, job.FailureMessage) = failure;
            job.Result = kind == "recovery" ? ResultOf(kind) : null;
        }
        else if (job.State == JobState.Succeeded)
        {
            job.Result = ResultOf(kind);
        }
        return job;
    }

    private static RestoreEstimate Estimate => new()
    {
        P50Seconds = 42, P90Seconds = 65, DataBytes = 4UL << 30, WireBytes = 1UL << 30, Path = "host1 → /srv (ext4 on /dev/sda1), qemu, qcow2, started", JudgedBy = 60,
        SampleBytesPerSecond = 95 << 20, OtherJobs = 1, Record = new EstimateRecord { Scored = 50, WithinP50 = 26, WithinP90 = 46, MedianError = 0.08 },
    };

    private JobResult ResultOf(string kind) => kind switch
    {
        "backup" => new JobResult { Backup = Point },
        "restore" => new JobResult
        {
            Restore = new RestoreResult
            {
                VmId = VmId, Name = "web1-restored", Running = true, BytesWritten = 1 << 30, BytesCompared = 3UL << 30, BytesSkipped = 2UL << 30,
                Details = { new NamedValue { Name = "pid", Value = "4711" } },
                Differences = { new RestoreDifference { Item = "disks.vda.format", Captured = "raw", Recreated = "qcow2" } }, DifferencesTotal = 2, DifferencesKnown = true,
                Estimate = With(Estimate, static estimate => estimate.ActualSeconds = 50),
            },
        },
        "backup-plan" => new JobResult { BackupPlan = new BackupPlan { Disks = { new DiskPlan { DiskId = "d1", Name = "vda", LengthBytes = 3UL << 30, ReadBytes = 1 << 20, ChangedOnly = true } }, FleeceBytesMax = 10, FleeceBytesFree = 20 } },
        "recovery" => new JobResult { Recovery = FakeRecovery.Result(IsRecoveryPlan, Failure is not null) },
        "migration" => new JobResult { Migration = FakeMigrations.Result },
        "migration-plan" => new JobResult { MigrationPlan = FakeMigrations.Plan(!IsMigrationBlocked) },
        "retention" => new JobResult { Retention = FakeRetention.Result },
        "replication" => new JobResult { Replication = FakeReplication.Result(IsDamaged) },
        "group-backup" => new JobResult { GroupBackup = FakeGroups.Stored },
        "scrub" => new JobResult
        {
            Scrub = new ScrubResult
            {
                Packs = 2, Bytes = 5 << 20, DamagesTotal = IsDamaged ? 1UL : 0, RecordsMissing = IsDamaged ? 1UL : 0,
                Findings = { IsDamaged ? [new ScrubFinding { Object = "packs/11", Problem = "Some bytes have changed.", RecordsLost = 1, RecordsSaved = 20 }] : Array.Empty<ScrubFinding>() },
            },
        },
        "collection" => new JobResult { Collection = new CollectionResult { Cycle = 3, PointsPurged = 2, RecordsRemoved = 70, BytesFreed = 5 << 20, PacksDeleted = 4, Problems = { "The pack p is damaged." } } },
        "restore-check" => new JobResult { RestoreCheck = new RestoreCheck { Findings = { new RestoreFinding { Item = "memory", Severity = RestoreFinding.Types.Severity.Fits, Message = "enough" } }, Estimate = Estimate } },
        _ => new JobResult { Verify = Verification },
    };

    private static VirtualMachine Known(string name) => name == "web1" ? Machine : throw Missing("virtual machine", name);

    private static RpcException Missing(string kind, string name) => FaultStatus.ToRpc(new FaultException(FaultReason.NotFound, $"There is no {kind} '{name}'."));

    private static T With<T>(T message, Action<T> change)
    {
        change(message);
        return message;
    }
}
