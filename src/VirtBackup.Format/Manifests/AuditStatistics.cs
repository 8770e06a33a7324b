namespace VirtBackup.Format.Manifests;

/// <summary>
/// What a run audited of change tracking: blocks that were called unchanged, read again and compared with the base. Counts
/// are of blocks of <see cref="BlockBytes"/>, over all disks that were read by their changes.
/// </summary>
public sealed record AuditStatistics
{
    /// <summary>By which loss is counted: dirty bitmaps track blocks of this size.</summary>
    public const int BlockBytes = 64 << 10;

    /// <summary>Called unchanged, whole.</summary>
    public long UnchangedBlocks { get; init; }

    /// <summary>Of these read again, whole.</summary>
    public long AuditedBlocks { get; init; }

    /// <summary>Bytes that were read again.</summary>
    public long AuditedBytes { get; init; }

    /// <summary>Chunks of them that had changed; of a run of zeros, parts.</summary>
    public long Misses { get; init; }

    /// <summary>Where the first miss was found, for people.</summary>
    public string? Miss { get; init; }

    /// <summary>Runs in which every disk is to be read again whole.</summary>
    public int Runs { get; init; }

    /// <summary>Runs of the present rotation with this one, of the disk that will be last.</summary>
    public int RunsTaken { get; init; }

    /// <summary>Further runs until every byte was read again, at the pace that the time limit allowed so far; 0: this one was the last.</summary>
    public int RunsLeft { get; init; }

    /// <summary>Bytes that the present rotations have passed.</summary>
    public long RotatedBytes { get; init; }

    /// <summary>Bytes that they pass in all.</summary>
    public long RotationBytes { get; init; }

    /// <summary>The time limit left some for the next run.</summary>
    public bool IsCut { get; init; }

    /// <summary>Why some disk was not audited, for people.</summary>
    public string? Omitted { get; init; }

    /// <summary>
    /// The probability that this run's sample holds at least one of <paramref name="lost"/> blocks that were called
    /// unchanged wrongly, when they lie anywhere with equal chance: drawn without replacement (hypergeometric),
    /// 1 − C(N − s, n) / C(N, n) for N blocks called unchanged, s audited, n lost.
    /// </summary>
    public double DetectionOf(int lost)
    {
        if (AuditedBlocks <= 0 || lost <= 0)
        {
            return 0;
        }
        var missed = 1.0;
        for (long i = 0; i < lost; i++)
        {
            if (UnchangedBlocks - AuditedBlocks - i <= 0)
            {
                return 1;
            }
            missed *= (double)(UnchangedBlocks - AuditedBlocks - i) / (UnchangedBlocks - i);
        }
        return 1 - missed;
    }
}
