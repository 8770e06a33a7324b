using VirtBackup.Core;

namespace VirtBackup.Catalog.Signals;

/// <summary>What a backup run was found to be. The numbers are stored.</summary>
public enum RunVerdict
{
    /// <summary>Nothing to compare it with: too few runs before it, or it was stored in another way than the one before.</summary>
    Learning = 0,

    Usual = 1,

    /// <summary>Nobody has said yet that it was meant.</summary>
    Abnormal = 2,

    /// <summary>It was abnormal, and somebody said that it was meant.</summary>
    Accepted = 3,
}

/// <summary>
/// What one backup run brought that the repository did not have. The repository counts it, not the agent. Bytes; times are
/// Unix milliseconds.
/// </summary>
public sealed record RunRow
{
    public required Id16 PointId { get; init; }

    public required Id16 VmId { get; init; }

    public required long EndedMs { get; init; }

    /// <summary>Length of all disks.</summary>
    public long LogicalBytes { get; init; }

    /// <summary>By which the disks are longer than those of the run before.</summary>
    public long GrownBytes { get; init; }

    /// <summary>Of chunks that were sent, before compression.</summary>
    public long NewBytes { get; init; }

    /// <summary>Of the same chunks, compressed and sealed.</summary>
    public long StoredBytes { get; init; }

    /// <summary>How the disks were cut and named. After a change everything is new once.</summary>
    public string Cut { get; init; } = "";

    /// <summary>The run before was stored in the same way.</summary>
    public bool IsComparable { get; init; }

    public RunVerdict Verdict { get; init; }

    /// <inheritdoc cref="RunJudgement.UsualNew"/>
    public int UsualNew { get; init; }

    /// <inheritdoc cref="RunJudgement.UsualStored"/>
    public int UsualStored { get; init; }

    /// <summary>The points before it are held; of an abnormal run.</summary>
    public bool IsHeld { get; init; }

    /// <summary>Called unchanged, and read again all the same.</summary>
    public long AuditedBytes { get; init; }

    /// <summary>Chunks of them that had changed.</summary>
    public long AuditMisses { get; init; }

    /// <summary>New data in millionths of the machine; what the disks grew by is left out.</summary>
    public int NewShare => ToShare(Math.Max(0, NewBytes - GrownBytes), LogicalBytes);

    /// <summary>What is stored in millionths of the new data.</summary>
    public int StoredShare => ToShare(StoredBytes, NewBytes);

    private static int ToShare(long part, long whole) => whole <= 0 ? 0 : (int)Math.Min(int.MaxValue, (double)part / whole * RunJudge.Whole);
}

/// <param name="Verdict">What the run is.</param>
/// <param name="UsualNew">Median of the shares of new data of the runs before it, millionths.</param>
/// <param name="UsualStored">Median of what is stored of new data, millionths; 0: unknown.</param>
public readonly record struct RunJudgement(RunVerdict Verdict, int UsualNew, int UsualStored);
