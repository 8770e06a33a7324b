namespace VirtBackup.Database;

/// <summary>How a SQLite database is opened.</summary>
public sealed record SqliteOptions
{
    /// <summary>
    /// True (<c>synchronous=FULL</c>): a committed transaction survives a power loss. False (<c>NORMAL</c>): a power loss
    /// may undo the latest commits, never tear one; only for data that can be rebuilt.
    /// </summary>
    public bool DurableCommits { get; init; } = true;

    /// <summary>
    /// Refuses to open a database that another process or another instance in this one has open as its owner. Without
    /// it, no file beside the database is locked.
    /// </summary>
    public bool Exclusive { get; init; } = true;

    /// <summary>Checks the file's structure at opening (reads the whole file).</summary>
    public bool VerifyStructure { get; init; }

    /// <summary>Page cache of the writing connection in KiB.</summary>
    public int CacheKibibytes { get; init; } = 8 << 10;

    /// <summary>Page cache of each reading connection in KiB. What it lacks is read from the system's page cache.</summary>
    public int ReaderCacheKibibytes { get; init; } = 1 << 10;

    /// <summary>Reading connections; more concurrent readers than that wait. 1 to 64.</summary>
    public int Readers { get; init; } = 4;

    /// <summary>How long a statement waits for a lock that another process holds, in milliseconds.</summary>
    public int BusyTimeoutMilliseconds { get; init; } = 5000;
}
