using VirtBackup.Core;

namespace VirtBackup.Catalog.Migrations;

/// <summary>What a migration does next. Values are stored; those from <see cref="HaltingTarget"/> on go back.</summary>
public enum MigrationStep
{
    Checking = 1,
    Copying = 2,
    Restoring = 3,
    Applying = 4,
    Stopping = 5,
    LastCopying = 6,
    LastApplying = 7,

    /// <summary>The source's copy is taken out of use; only then may the target start.</summary>
    Retiring = 8,

    /// <summary>From here on the target may run.</summary>
    Starting = 9,
    RemovingSource = 10,
    MovingStorage = 12,

    /// <summary>The target may have started: it is stopped before anything else.</summary>
    HaltingTarget = 20,

    /// <summary>The target's copy goes before the source comes back.</summary>
    ClearingTarget = 21,
    Reinstating = 22,
    RestartingSource = 23,
    RemovingTarget = 24,
}

/// <summary>A migration as far as it is. Times are Unix milliseconds; blobs are opaque here.</summary>
public sealed record MigrationRow
{
    /// <summary>Also that of its job.</summary>
    public required Id16 MigrationId { get; init; }

    public required Id16 VmId { get; init; }

    public required string VmName { get; init; }

    public required string SourceAgent { get; init; }

    /// <summary>The same as <see cref="SourceAgent"/> when only disks move.</summary>
    public required string TargetAgent { get; init; }

    public byte[] Options { get; init; } = [];

    public MigrationStep Step { get; init; } = MigrationStep.Checking;

    public JobPhase State { get; init; } = JobPhase.Running;

    /// <summary>Increments so far.</summary>
    public int Round { get; init; }

    /// <summary>Of the step, behind the first.</summary>
    public int Tries { get; init; }

    /// <summary>That the target's copy is to hold next, or holds.</summary>
    public Id16 PointId { get; init; }

    /// <summary>Why it goes back.</summary>
    public string Failure { get; init; } = "";

    public FaultReason FailureReason { get; init; }

    /// <summary>It goes back because somebody asked for it.</summary>
    public bool Cancelled { get; init; }

    public byte[] Result { get; init; } = [];

    public double PredictedP50Seconds { get; init; }

    public double PredictedP90Seconds { get; init; }

    public double StopSeconds { get; init; }

    public double StartSeconds { get; init; }

    /// <summary>Of the last increment, behind the stop: reading and applying it.</summary>
    public double LastSeconds { get; init; }

    public long LastBytes { get; init; }

    /// <summary>0: the machine was not stopped, or did not start on the target.</summary>
    public double DowntimeSeconds { get; init; }

    public required long CreatedMs { get; init; }

    public long? EndedMs { get; init; }

    public bool SourceRemoved { get; init; }

    /// <summary>When the source was told to stop; null: it was not, or was known to be off.</summary>
    public long? StoppedMs { get; init; }
}
