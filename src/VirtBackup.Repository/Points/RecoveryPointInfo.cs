using VirtBackup.Core;

namespace VirtBackup.Repository.Points;

/// <summary>A committed recovery point as the index knows it. Times are Unix milliseconds.</summary>
public sealed record RecoveryPointInfo
{
    public required Id16 Point { get; init; }
    public required Id16 Vm { get; init; }
    public required Id16 Lineage { get; init; }

    /// <summary>The repository where the point was made: this one, or the one from which it was replicated.</summary>
    public required Id16 Origin { get; init; }

    /// <summary>Within which the point's chunks are shared.</summary>
    public required Id16 Scope { get; init; }

    public required long Sequence { get; init; }
    public required long CreatedMs { get; init; }

    /// <summary>Owner generation that took the point.</summary>
    public required long Generation { get; init; }

    public required long Attempt { get; init; }

    /// <summary>Hash of the point's manifest: what later points name as previous or base.</summary>
    public required Id32 ManifestHash { get; init; }

    /// <summary>Length of the manifest object, bytes.</summary>
    public required long ManifestBytes { get; init; }

    public Id32 PreviousManifest { get; init; }
    public Id32 BaseManifest { get; init; }
    public required Id16 AgentKeyId { get; init; }

    /// <summary>Length of all streams together, bytes.</summary>
    public required long StreamBytes { get; init; }

    /// <summary>False when something that the point needs was missing or damaged at the last rebuild or start.</summary>
    public required bool IsComplete { get; init; }
}

/// <summary>A recovery point that was forgotten and can still be brought back.</summary>
/// <param name="Vm">Its virtual machine.</param>
/// <param name="Point">The point.</param>
public sealed record ForgottenPoint(Id16 Vm, Id16 Point)
{
    /// <summary>Since when, Unix milliseconds; a rebuild of the index begins to count anew.</summary>
    public long ForgottenMs { get; init; }

    /// <summary>When the point was made, Unix milliseconds.</summary>
    public long CreatedMs { get; init; }
}
