using VirtBackup.Core;

namespace VirtBackup.Catalog;

/// <summary>What a job does. Values are stored.</summary>
public enum JobKind
{
    Backup = 1,
    Restore = 2,
    BackupPlan = 3,
    RestoreCheck = 4,

    /// <summary>Runs in the controller.</summary>
    Verify = 5,

    /// <summary>Runs in the controller.</summary>
    Retention = 6,

    /// <summary>Runs in the controller.</summary>
    Collection = 7,

    /// <summary>Runs in the controller.</summary>
    Scrub = 8,

    /// <summary>Restores several machines and starts them in order. Runs in the controller, and makes jobs for agents.</summary>
    Recovery = 60,

    MoveStorage = 70,
    MoveStorageCheck = 71,
    StopMachine = 72,
    StartMachine = 73,
    RetireMachine = 74,

    /// <summary>Runs in the controller, and makes jobs for agents.</summary>
    Migration = 75,

    /// <summary>Runs in the controller, and makes jobs for agents.</summary>
    MigrationPlan = 76,

    /// <summary>Runs in the controller: cuts the machines of a group, each by a job of its own.</summary>
    GroupBackup = 20,

    /// <summary>Pulls recovery points from another controller. Runs in the controller.</summary>
    Replication = 90,
}

/// <summary>Where a job is. Values are stored.</summary>
public enum JobPhase
{
    Queued = 1,
    Running = 2,
    Succeeded = 3,
    Failed = 4,
    Cancelled = 5,
}

/// <summary>One job. Times are Unix milliseconds; blobs are opaque here.</summary>
public sealed record JobRow
{
    /// <summary>The order in which jobs were made; 0 before the job is stored.</summary>
    public long Number { get; init; }

    public required Id16 JobId { get; init; }

    /// <summary>The caller's name for its request; null when it gave none.</summary>
    public string? RequestId { get; init; }

    public required JobKind Kind { get; init; }

    /// <summary>Empty for jobs that concern no machine.</summary>
    public Id16 VmId { get; init; }

    public string VmName { get; init; } = "";

    /// <summary>The agent that runs it; empty: the controller itself.</summary>
    public string Agent { get; init; } = "";

    /// <summary>The recovery point that it makes or reads; empty: none.</summary>
    public Id16 PointId { get; init; }

    public JobPhase State { get; init; } = JobPhase.Queued;

    /// <summary>The fencing token: 1 for the first try.</summary>
    public long Attempt { get; init; } = 1;

    public bool CancelRequested { get; init; }

    public byte[] Options { get; init; } = [];

    /// <summary>Of a restore whose start waits for others: when and how it starts; empty: at once.</summary>
    public byte[] Start { get; init; } = [];

    public byte[] Progress { get; init; } = [];

    public byte[] Result { get; init; } = [];

    public string FailureMessage { get; init; } = "";

    public FaultReason FailureReason { get; init; }

    public required long CreatedMs { get; init; }

    public long? StartedMs { get; init; }

    public long? EndedMs { get; init; }

    /// <summary>From its begin to its end, seconds; of a job that never began from when it was made, of one that is not over 0.</summary>
    public double RunSeconds => Math.Max(0, ((EndedMs ?? CreatedMs) - (StartedMs ?? CreatedMs)) / 1000.0);

    public bool IsFinal => State is JobPhase.Succeeded or JobPhase.Failed or JobPhase.Cancelled;
}

/// <summary>A line of a job's log. <paramref name="TimeMs"/>: Unix milliseconds.</summary>
public readonly record struct JobLogLine(long TimeMs, string Text);
