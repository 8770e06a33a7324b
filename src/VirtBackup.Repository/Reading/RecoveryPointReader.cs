using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Points;

namespace VirtBackup.Repository.Reading;

/// <summary>
/// Reads one committed recovery point: its manifest, its map nodes and the records of its streams, all as stored. It hands
/// out only what hangs below the point's roots. One call at a time.
/// </summary>
public sealed class RecoveryPointReader
{
    /// <summary>Bytes of a stream that one call of <see cref="ReadRecordsAsync"/> may ask for.</summary>
    public const long RangeBytesMax = 1L << 30;

    /// <summary>Ranges in one call of <see cref="ReadRecordsAsync"/>.</summary>
    public const int RangesMax = 4096;

    private readonly NodeCache _nodes;
    private readonly RecordStream _records;
    private readonly HashSet<Id32> _reachable = [];

    // Used again by every call: it is a large object.
    private readonly HashSet<WantedChunk> _wanted = [];

    private readonly Func<RecoveryPointReader> _again;
    private bool _knowsAll;

    internal RecoveryPointReader(IObjectStore store, IDatabase index, Manifest manifest, int nodeCacheBytes)
    {
        Manifest = manifest;
        _again = () => new RecoveryPointReader(store, index, manifest, nodeCacheBytes) { FindsDescendants = FindsDescendants };
        _nodes = new NodeCache(new NodeReader(store, index), new NodeBatch(store, index), nodeCacheBytes);
        _records = new RecordStream(store, index, manifest.Head.Point, manifest.Head.Scope);
        foreach (var stream in manifest.Head.Streams)
        {
            if (!stream.Root.IsZero)
            {
                _reachable.Add(stream.Root);
            }
        }
    }

    /// <summary>
    /// A node whose parent was not served is looked for below the roots, once: all inner nodes are read, one for each GiB of a stream
    /// at usual chunk lengths.
    /// </summary>
    internal bool FindsDescendants { get; init; }

    /// <summary>The manifest, its hash checked.</summary>
    public Manifest Manifest { get; }

    /// <summary>Another reader of the same point, for a concurrent call; also when the point was forgotten meanwhile.</summary>
    public RecoveryPointReader OpenAnother() => _again();

    /// <summary>
    /// The nodes as a stream of records, in the order asked. Known are the roots and the children of nodes that this reader
    /// has served before.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Denied"/>: an id is not known to be part of this point.</exception>
    public async IAsyncEnumerable<PooledSlice> ReadNodesAsync(IReadOnlyList<Id32> ids, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(ids);
        for (var i = 0; i < ids.Count; i++)
        {
            var id = ids[i];
            if (FindsDescendants && !_reachable.Contains(id) && !_knowsAll)
            {
                await FindAllAsync(cancellationToken);
            }
            if (!_reachable.Contains(id))
            {
                throw new FaultException(
                    FaultReason.Denied, $"The map node {id} is not known to be part of recovery point {Manifest.Head.Point}: ask for its parent first.");
            }
            var node = await ReadNodeAsync(id, ids.Skip(i).Where(_reachable.Contains), cancellationToken);
            NoteChildren(node);
            using var buffer = new SharedBuffer(RecordHeader.Size + node.Length);
            RecordHeader.ForNode(id, node.Length).Write(buffer.Memory.Span);
            node.CopyTo(buffer.Memory[RecordHeader.Size..]);
            for (var at = 0; at < buffer.Memory.Length; at += Limits.SliceBytesMax)
            {
                yield return new PooledSlice(buffer, buffer.Memory.Slice(at, Math.Min(Limits.SliceBytesMax, buffer.Memory.Length - at)));
            }
        }
    }

    /// <summary>
    /// The data records that the ranges need, each once, in pack order, cut into slices that need not end where records do.
    /// </summary>
    /// <param name="streamId">A stream of the point.</param>
    /// <param name="ranges">Ascending, not overlapping; at most <see cref="RangesMax"/> and <see cref="RangeBytesMax"/> together.</param>
    /// <param name="cancellationToken">Stops between reads.</param>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.InvalidArgument"/>: the ranges; <see cref="FaultReason.NotFound"/>: no such stream;
    /// <see cref="FaultReason.Corrupt"/>: a node or chunk cannot be had any more.
    /// </exception>
    public async IAsyncEnumerable<PooledSlice> ReadRecordsAsync(
        Id16 streamId, IReadOnlyList<ByteRange> ranges, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(ranges);
        var stream = FindStream(streamId);
        RequireRanges(stream, ranges);
        _wanted.Clear();
        if (!stream.Root.IsZero && ranges.Count > 0)
        {
            var root = await ReadNodeAsync(stream.Root, [stream.Root], cancellationToken);
            await CollectAsync(root, stream.Geometry.Root, 0, ranges, _wanted, cancellationToken);
        }
        await foreach (var slice in _records.ReadAsync(_wanted, cancellationToken))
        {
            yield return slice;
        }
    }

    private async ValueTask<byte[]> ReadNodeAsync(Id32 id, IEnumerable<Id32> next, CancellationToken cancellationToken)
    {
        try
        {
            return await _nodes.ReadAsync(id, next, cancellationToken);
        }
        catch (FaultException fault) when (fault.Reason is FaultReason.NotFound or FaultReason.Corrupt)
        {
            throw new FaultException(FaultReason.Corrupt, $"The recovery point {Manifest.Head.Point} is damaged. {fault.Message}", fault);
        }
    }

    private ManifestStream FindStream(Id16 streamId)
    {
        foreach (var stream in Manifest.Head.Streams)
        {
            if (stream.Id == streamId)
            {
                return stream;
            }
        }
        throw new FaultException(FaultReason.NotFound, $"The recovery point {Manifest.Head.Point} has no stream {streamId}.");
    }

    private static void RequireRanges(ManifestStream stream, IReadOnlyList<ByteRange> ranges)
    {
        long end = 0, total = 0;
        foreach (var range in ranges)
        {
            if (range.Length <= 0 || range.Offset < end || range.Length > RangeBytesMax || range.Offset > stream.Geometry.StreamLength - range.Length)
            {
                throw new FaultException(FaultReason.InvalidArgument, $"The ranges of stream {stream.Id} are not ascending, overlap, or leave the stream.");
            }
            end = range.End;
            total += range.Length;
        }
        if (total > RangeBytesMax || ranges.Count > RangesMax)
        {
            throw new FaultException(
                FaultReason.InvalidArgument, $"At most {RangesMax} ranges and {RangeBytesMax} bytes of a stream can be read by one call.");
        }
    }

    private async ValueTask CollectAsync(
        byte[] node, MapPlace place, long start, IReadOnlyList<ByteRange> ranges, HashSet<WantedChunk> chunks, CancellationToken cancellationToken)
    {
        if (place.Level == 0)
        {
            CollectChunks(MapLeaf.Parse(node, place), start, ranges, chunks);
            return;
        }
        var inner = MapInner.Parse(node, place);
        var children = new List<int>();
        for (var i = 0; i < inner.Count; i++)
        {
            var childStart = start + (i * place.ChildBytes);
            if (!inner[i].IsZero && Touches(ranges, childStart, childStart + place.Child(i).Length))
            {
                children.Add(i);
            }
        }
        for (var at = 0; at < children.Count; at++)
        {
            var i = children[at];
            var child = await ReadNodeAsync(inner[i], children.Skip(at).Select(next => inner[next]), cancellationToken);
            await CollectAsync(child, place.Child(i), start + (i * place.ChildBytes), ranges, chunks, cancellationToken);
        }
    }

    private static void CollectChunks(MapLeaf leaf, long start, IReadOnlyList<ByteRange> ranges, HashSet<WantedChunk> chunks)
    {
        for (var i = 0; i < leaf.Count; i++)
        {
            var length = leaf.LengthAt(i);
            if (!leaf.IdAt(i).IsZero && Touches(ranges, start, start + length))
            {
                chunks.Add(new WantedChunk(leaf.IdAt(i), length));
            }
            start += length;
        }
    }

    /// <summary>Whether any range has a byte in [start, end).</summary>
    private static bool Touches(IReadOnlyList<ByteRange> ranges, long start, long end)
    {
        var (low, high) = (0, ranges.Count);
        while (low < high)
        {
            var middle = (low + high) / 2;
            (low, high) = ranges[middle].End <= start ? (middle + 1, high) : (low, middle);
        }
        return low < ranges.Count && ranges[low].Offset < end;
    }

    /// <summary>The manifest of a point, as it was committed.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Corrupt"/>: it is another one, or damaged.</exception>
    internal static async ValueTask<Manifest> ReadManifestAsync(IObjectStore store, RecoveryPointInfo info, CancellationToken cancellationToken)
    {
        var manifest = Manifest.Parse(await store.ReadAllAsync(ObjectKeys.Manifest(info.Vm, info.Point), Limits.ManifestBytesMax, cancellationToken));
        return manifest.Hash == info.ManifestHash
            ? manifest
            : throw FaultException.Corrupt($"The manifest of recovery point {info.Point} is not the one that was committed. Verify the repository.");
    }

    /// <summary>Notes every node below the roots; leaves are not read for it.</summary>
    private async ValueTask FindAllAsync(CancellationToken cancellationToken)
    {
        foreach (var stream in Manifest.Head.Streams)
        {
            List<Id32> level = stream.Root.IsZero ? [] : [stream.Root];
            for (var height = stream.Geometry.Height; height > 0; height--)
            {
                var children = new HashSet<Id32>();
                for (var i = 0; i < level.Count; i++)
                {
                    var inner = MapInner.Parse(await ReadNodeAsync(level[i], level.Skip(i), cancellationToken));
                    for (var child = 0; child < inner.Count; child++)
                    {
                        if (!inner[child].IsZero)
                        {
                            children.Add(inner[child]);
                        }
                    }
                }
                _reachable.UnionWith(children);
                level = [.. children];
            }
        }
        _knowsAll = true;
    }

    private void NoteChildren(ReadOnlyMemory<byte> node)
    {
        if (MapNodeHead.Parse(node.Span).Kind != MapNodeKind.Inner)
        {
            return;
        }
        var inner = MapInner.Parse(node);
        for (var i = 0; i < inner.Count; i++)
        {
            if (!inner[i].IsZero)
            {
                _reachable.Add(inner[i]);
            }
        }
    }
}
