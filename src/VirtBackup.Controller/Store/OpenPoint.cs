using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Reading;

namespace VirtBackup.Controller.Store;

/// <summary>
/// A recovery point that a job reads: one reader for map nodes, and some for records, so that a slow stream of records
/// never delays the map. The point is not purged while it is open. Safe for concurrent use.
/// </summary>
[System.Diagnostics.CodeAnalysis.SuppressMessage(
    "Design", "CA1001", Justification = "The gate's wait handle is never asked for, and calls may still run when the point is let go.")]
internal sealed class OpenPoint(RecoveryPointReader nodes, IDisposable hold, TimeProvider time) : IDisposable
{
    private const int IdleReadersMax = 4;

    private readonly SemaphoreSlim _reading = new(1, 1);
    private readonly Lock _lock = new();
    private readonly Stack<RecoveryPointReader> _idle = new();
    private long _usedAt = time.GetTimestamp();
    private bool _isWarm;

    public RecoveryPointReader Nodes => nodes;

    /// <summary>What the store was asked before it was opened.</summary>
    public StoreTraffic? TrafficBefore { get; init; }

    public TimeSpan Idle => time.GetElapsedTime(Interlocked.Read(ref _usedAt));

    public async IAsyncEnumerable<PooledSlice> ReadNodesAsync(IReadOnlyList<Id32> ids, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        Touch();
        await _reading.WaitAsync(cancellationToken);
        try
        {
            await WarmAsync(ids, cancellationToken);
            await foreach (var slice in nodes.ReadNodesAsync(ids, cancellationToken))
            {
                yield return slice;
            }
        }
        finally
        {
            _reading.Release();
        }
    }

    public async IAsyncEnumerable<PooledSlice> ReadRecordsAsync(Id16 stream, IReadOnlyList<ByteRange> ranges, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        Touch();
        var reader = TakeReader();
        try
        {
            await foreach (var slice in reader.ReadRecordsAsync(stream, ranges, cancellationToken))
            {
                yield return slice;
            }
        }
        finally
        {
            Touch();
            lock (_lock)
            {
                if (_idle.Count < IdleReadersMax)
                {
                    _idle.Push(reader);
                }
            }
        }
    }

    /// <summary>The point may be purged again.</summary>
    public void Dispose() => hold.Dispose();

    private void Touch() => Interlocked.Exchange(ref _usedAt, time.GetTimestamp());

    private RecoveryPointReader TakeReader()
    {
        lock (_lock)
        {
            if (_idle.TryPop(out var idle))
            {
                return idle;
            }
        }
        return nodes.OpenAnother();
    }

    /// <summary>
    /// A fresh reader knows the roots only. When the first request is for other nodes, the agent has walked the map
    /// before the controller was restarted: its inner nodes are read once, so that their children are known again.
    /// </summary>
    private async ValueTask WarmAsync(IReadOnlyList<Id32> ids, CancellationToken cancellationToken)
    {
        if (_isWarm)
        {
            return;
        }
        _isWarm = true;
        var roots = nodes.Manifest.Head.Streams.Where(static stream => !stream.Root.IsZero).ToList();
        if (ids.All(id => roots.Exists(stream => stream.Root == id)))
        {
            return;
        }
        foreach (var stream in roots)
        {
            var level = stream.Geometry.Height;
            List<Id32> group = [stream.Root];
            for (; level > 0; level--)
            {
                List<Id32> children = [];
                foreach (var id in group)
                {
                    await CollectChildrenAsync(id, children, cancellationToken);
                }
                group = children;
            }
        }
    }

    private async ValueTask CollectChildrenAsync(Id32 id, List<Id32> children, CancellationToken cancellationToken)
    {
        using var record = new MemoryStream();
        await foreach (var slice in nodes.ReadNodesAsync([id], cancellationToken))
        {
            using (slice)
            {
                record.Write(slice.Memory.Span);
            }
        }
        var inner = MapInner.Parse(record.ToArray().AsMemory(RecordHeader.Size));
        for (var i = 0; i < inner.Count; i++)
        {
            if (!inner[i].IsZero)
            {
                children.Add(inner[i]);
            }
        }
    }
}
