namespace VirtBackup.Agent.Restore.InPlace;

/// <summary>What a restore in place did to existing disks, in bytes. Safe for concurrent use.</summary>
internal sealed class ComparisonCounts
{
    private long _compared;
    private long _skipped;
    private long _written;

    /// <summary>Compared with the recovery point.</summary>
    public long Compared => Interlocked.Read(ref _compared);

    /// <summary>Equal already: compared, or known to be by change tracking.</summary>
    public long Skipped => Interlocked.Read(ref _skipped);

    public long Written => Interlocked.Read(ref _written);

    public void AddCompared(long bytes) => Interlocked.Add(ref _compared, bytes);

    public void AddSkipped(long bytes) => Interlocked.Add(ref _skipped, bytes);

    public void AddWritten(long bytes) => Interlocked.Add(ref _written, bytes);
}
