using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Format.Manifests;

namespace VirtBackup.Agent.Auditing;

/// <summary>Counts whole blocks while extents or ranges of one disk pass by, ascending.</summary>
internal sealed class UnchangedBlocks(long lengthBytes)
{
    private const int Block = AuditStatistics.BlockBytes;

    private long _changed;
    private long _next;

    /// <summary>Blocks of the disk that no extent touched so far.</summary>
    public long Count => ((lengthBytes + Block - 1) / Block) - _changed;

    /// <summary>Hands the extents on.</summary>
    public async IAsyncEnumerable<ByteRange> CountAsync(IAsyncEnumerable<ByteRange> extents, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await foreach (var extent in extents.WithCancellation(cancellationToken))
        {
            var first = Math.Max(extent.Offset / Block, _next);
            _next = Math.Max(_next, (extent.End + Block - 1) / Block);
            _changed += Math.Max(0, _next - first);
            yield return extent;
        }
    }

    /// <summary>Blocks that lie in a range whole; the disk's last one may be shorter.</summary>
    public long WholeIn(long start, long end) =>
        Math.Max(0, (end == lengthBytes ? (end + Block - 1) / Block : end / Block) - ((start + Block - 1) / Block));
}
