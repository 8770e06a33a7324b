using VirtBackup.Core;
using VirtBackup.Format.Manifests;

namespace VirtBackup.Repository.Commits;

/// <summary>What a session was told at its beginning, and what the manifest it commits must therefore say.</summary>
public sealed record CommitExpectation
{
    /// <summary>The repository in whose name the point is made, for a machine that was replicated from there; empty: this one.</summary>
    public Id16 Origin { get; init; }

    public required Id16 Vm { get; init; }
    public required Id16 Lineage { get; init; }
    public required Id16 Point { get; init; }
    public required long Generation { get; init; }
    public required long Attempt { get; init; }
    public required long Sequence { get; init; }

    /// <summary>Unix milliseconds of the controller's clock.</summary>
    public required long CreatedMs { get; init; }

    /// <summary>Hash of the lineage's tip; zero for the first point.</summary>
    public Id32 PreviousManifest { get; init; }

    /// <summary>Hash of the manifest whose nodes this point may share; the manifest may also name none.</summary>
    public Id32 BaseManifest { get; init; }

    /// <summary>Names the signing key of the agent that runs the session.</summary>
    public required Id16 AgentKeyId { get; init; }

    /// <summary>The field in which the head differs, or null.</summary>
    internal string? FindDifference(ManifestHead head, Id16 repository, Id16 scope, ushort idGeneration) =>
        head.Repository != (Origin.IsEmpty ? repository : Origin) ? "repository"
        : head.Vm != Vm ? "virtual machine"
        : head.Lineage != Lineage ? "lineage"
        : head.Point != Point ? "recovery point"
        : head.Scope != scope || head.IdGeneration != idGeneration ? "scope"
        : head.Generation != Generation ? "generation"
        : head.Attempt != Attempt ? "attempt"
        : head.Sequence != Sequence ? "sequence"
        : head.CreatedMs != CreatedMs ? "creation time"
        : head.PreviousManifest != PreviousManifest ? "previous manifest"
        : head.BaseManifest != BaseManifest && !head.BaseManifest.IsZero ? "base manifest"
        : head.AgentKeyId != AgentKeyId ? "agent key"
        : null;
}

/// <summary>A committed recovery point.</summary>
/// <param name="ManifestHash">What later points name as previous or base.</param>
/// <param name="StoredBytes">Packs that the session made durable, bytes.</param>
public readonly record struct CommitResult(Id32 ManifestHash, long StoredBytes);
