namespace VirtBackup.Repository.Auditing;

/// <summary>What a recount of all references found.</summary>
public sealed record AuditReport
{
    /// <summary>Manifests that were read, of visible and of forgotten points.</summary>
    public long Points { get; init; }

    /// <summary>Distinct map nodes that were read.</summary>
    public long Nodes { get; init; }

    /// <summary>References that were counted.</summary>
    public long References { get; init; }

    /// <summary>Rows of the index that were compared.</summary>
    public long Rows { get; init; }

    /// <summary>Objects that are counted more often than they are referred to: they would never be freed.</summary>
    public long CountedTooOften { get; init; }

    /// <summary>Of these, set right, because two audits found the same.</summary>
    public long Repaired { get; init; }

    /// <summary>Why nothing may be deleted; null when everything that is needed is counted.</summary>
    public string? Problem { get; init; }

    /// <summary>Nothing needed could be deleted by these counts.</summary>
    public bool IsSound => Problem is null;
}
