namespace VirtBackup.Repository;

/// <summary>How a repository is opened and used.</summary>
public sealed record RepositoryOptions
{
    /// <summary>A pack is closed when it has this many bytes. Null: as the store likes them; other ones are for tests.</summary>
    public int? PackBytesTarget { get; init; }

    /// <summary>Map nodes that one reader keeps in memory, bytes: the leaves of 2 GiB of disk at usual chunk lengths.</summary>
    public int NodeCacheBytes { get; init; } = 512 << 10;

    /// <summary>A time that is known to have come, Unix milliseconds: no stamp is earlier, whatever the wall clock says.</summary>
    public long TimeFloorMs { get; init; }

    /// <summary>
    /// It is a copy of a repository that is elsewhere: its points are pulled from there, also those that name it as their origin, and
    /// none are made here.
    /// </summary>
    public bool IsCopy { get; init; }

    /// <summary>Makes the index anew from the store even if it looks current.</summary>
    public bool RebuildIndex { get; init; }

    /// <summary>Told how a rebuild of the index goes on.</summary>
    public IProgress<RebuildProgress>? RebuildProgress { get; init; }
}

/// <summary>How far a rebuild is: tables of contents are read, then map nodes; rows are written; points are added.</summary>
/// <param name="Packs">Packs whose tables of contents were read.</param>
/// <param name="Records">Records in them.</param>
/// <param name="References">References read from map nodes, to nodes and to chunks.</param>
/// <param name="ReferencesChecked">References of which it is known whether what they name is stored; anew when something is missing.</param>
/// <param name="Rows">Rows of objects and complete nodes written; anew when something is missing.</param>
/// <param name="Points">Recovery points added.</param>
public readonly record struct RebuildProgress(long Packs, long Records, long References, long ReferencesChecked, long Rows, long Points);

/// <summary>What a repository holds. Bytes.</summary>
/// <param name="Packs">Packs of both kinds.</param>
/// <param name="PackBytes">Their bytes in the store.</param>
/// <param name="Chunks">Stored chunks; a chunk that lies in several packs counts for each.</param>
/// <param name="ChunkBytes">The same chunks before compression.</param>
/// <param name="Nodes">Stored map nodes.</param>
/// <param name="Points">Committed recovery points.</param>
public sealed record RepositoryStatistics(long Packs, long PackBytes, long Chunks, long ChunkBytes, long Nodes, long Points);
