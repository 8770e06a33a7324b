using VirtBackup.Core;
using VirtBackup.Hypervisors;

namespace VirtBackup.Agent.Auditing;

/// <summary>A captured disk that is read in full, because its change tracking has missed a change.</summary>
internal sealed class DistrustedDisk(ICapturedDisk inner) : ICapturedDisk
{
    public DiskSummary Disk => inner.Disk;

    public bool ChangedOnly => false;

    public string Reason => "read in full: the audit found a change that change tracking had missed";

    public ReadReach Reach => inner.Reach;

    public string BaseToken => inner.BaseToken;

    public bool SequentialOnly => inner.SequentialOnly;

    /// <summary>Where the view knows only what changed, what is allocated is not known either: all is read.</summary>
    public IAsyncEnumerable<ByteRange> ListExtentsAsync(CancellationToken cancellationToken) => !inner.ChangedOnly
        ? inner.ListExtentsAsync(cancellationToken)
        : Disk.LengthBytes == 0 ? AsyncEnumerable.Empty<ByteRange>() : new[] { new ByteRange(0, Disk.LengthBytes) }.ToAsyncEnumerable();

    public ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken) => inner.ReadAsync(offset, destination, cancellationToken);
}
