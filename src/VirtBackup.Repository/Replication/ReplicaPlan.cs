using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Repository.Reading;
using VirtBackup.Repository.Verification;

namespace VirtBackup.Repository.Replication;

/// <summary>A node that is to be looked at: what it is, and which bytes of which stream it covers.</summary>
internal readonly record struct OpenNode(Id32 Id, MapPlace Place, int Stream, long Offset)
{
    /// <summary>It was looked at before and put back.</summary>
    public bool IsAgain { get; init; }

    /// <summary>The copy that is here cannot be read: another one is needed.</summary>
    public bool IsUnreadable { get; init; }
}

/// <summary>A chunk that a leaf names, and where.</summary>
internal readonly record struct NamedChunk(Id32 Id, int Length, int Stream, long Offset);

/// <summary>
/// What is still to be done of a pull: nodes to look at, and missing chunks to ask for. Of a deep tree it holds one path with all
/// siblings. Safe for concurrent use.
/// </summary>
internal sealed class ReplicaPlan
{
    /// <summary>Missing chunks beyond which no more nodes are asked for.</summary>
    private const int ChunksEnough = 128 << 10;

    /// <summary>Missing chunks beyond which a call for nodes is broken off: leaves may name many more than is usual.</summary>
    private const int ChunksMax = 256 << 10;

    /// <summary>Entries that the leaves of one call have, as a rule.</summary>
    private const int EntriesPerCall = 64 << 10;

    /// <summary>Of a window of records: small enough that several calls share what is missing, large enough for a long link.</summary>
    private const long WindowBytes = 64 << 20;

    private const int RememberedNodes = 64 << 10;

    private readonly Lock _sync = new();
    private readonly Stack<OpenNode> _open = new();
    private readonly List<OpenNode> _deferred = [];
    private readonly RecentSet<(Id32, MapPlace)> _seen = new(RememberedNodes);
    private readonly Queue<NamedChunk>[] _missing;
    private readonly long[] _missingBytes;
    private TaskCompletionSource _changed = NewSignal();
    private int _missingCount;
    private int _expected;

    public ReplicaPlan(IReadOnlyList<ManifestStream> streams)
    {
        _missing = [.. streams.Select(static _ => new Queue<NamedChunk>())];
        _missingBytes = new long[streams.Count];
        for (var i = streams.Count - 1; i >= 0; i--)
        {
            if (!streams[i].Root.IsZero)
            {
                _open.Push(new OpenNode(streams[i].Root, streams[i].Geometry.Root, i, 0));
            }
        }
    }

    /// <summary>Is completed when there is something new to do.</summary>
    public Task Changed
    {
        get
        {
            lock (_sync)
            {
                return _changed.Task;
            }
        }
    }

    /// <summary>Leaves named more missing chunks than are held.</summary>
    public bool IsFull
    {
        get
        {
            lock (_sync)
            {
                return _missingCount >= ChunksMax;
            }
        }
    }

    /// <summary>No node waits to be looked at.</summary>
    public bool HasNoNodes
    {
        get
        {
            lock (_sync)
            {
                return _open.Count == 0;
            }
        }
    }

    public bool HasDeferred
    {
        get
        {
            lock (_sync)
            {
                return _deferred.Count > 0;
            }
        }
    }

    /// <summary>The next nodes to look at, together; empty: none, or enough is missing already.</summary>
    /// <param name="entries">How many entries their leaves are expected to have: to be given back when they were looked at.</param>
    public List<OpenNode> TakeNodes(out int entries)
    {
        lock (_sync)
        {
            var nodes = new List<OpenNode>();
            entries = 0;
            while (nodes.Count < IReplicaSource.NodeIdsMax && _missingCount + _expected + entries < ChunksEnough && entries < EntriesPerCall && _open.TryPop(out var node))
            {
                if (!node.IsAgain)
                {
                    if (_seen.Contains((node.Id, node.Place)))
                    {
                        continue;
                    }
                    _seen.Add((node.Id, node.Place));
                }
                nodes.Add(node);
                entries += node.Place.Level == 0 ? 1 << (node.Place.Shape.SpanLog2 - node.Place.Shape.ChunkLog2) : 0;
            }
            _expected += entries;
            return nodes;
        }
    }

    /// <summary>Notes the children of nodes that were looked at, the first of which is looked at next.</summary>
    public void AddNodes(IReadOnlyList<OpenNode> nodes)
    {
        lock (_sync)
        {
            for (var i = nodes.Count - 1; i >= 0; i--)
            {
                _open.Push(nodes[i]);
            }
            Signal();
        }
    }

    /// <summary>The node is under way at another place: it can be read when it is durable.</summary>
    public void Defer(OpenNode node)
    {
        lock (_sync)
        {
            _deferred.Add(node with { IsAgain = true, IsUnreadable = false });
        }
    }

    /// <summary>What was deferred is durable.</summary>
    public void Reopen()
    {
        lock (_sync)
        {
            _deferred.ForEach(_open.Push);
            _deferred.Clear();
        }
    }

    /// <summary>A call for nodes has ended.</summary>
    public void EndNodes(int entries)
    {
        lock (_sync)
        {
            _expected -= entries;
            Signal();
        }
    }

    public void AddMissing(IReadOnlyList<NamedChunk> chunks)
    {
        lock (_sync)
        {
            foreach (var chunk in chunks)
            {
                _missing[chunk.Stream].Enqueue(chunk);
                _missingBytes[chunk.Stream] += chunk.Length;
            }
            _missingCount += chunks.Count;
            Signal();
        }
    }

    /// <summary>Chunks of one stream to ask for together, by offset; empty: none, or so few that more should be waited for.</summary>
    /// <param name="evenFew">Nothing is to be waited for.</param>
    public List<NamedChunk> TakeMissing(bool evenFew)
    {
        lock (_sync)
        {
            var fullest = 0;
            for (var i = 1; i < _missing.Length; i++)
            {
                fullest = _missingBytes[i] > _missingBytes[fullest] ? i : fullest;
            }
            var chunks = new List<NamedChunk>();
            if (_missing.Length == 0 || (!evenFew && _missingBytes[fullest] < WindowBytes && _missing[fullest].Count < RecoveryPointReader.RangesMax))
            {
                return chunks;
            }
            long bytes = 0;
            while (chunks.Count < RecoveryPointReader.RangesMax && bytes < WindowBytes && _missing[fullest].TryDequeue(out var chunk))
            {
                chunks.Add(chunk);
                bytes += chunk.Length;
            }
            _missingBytes[fullest] -= bytes;
            _missingCount -= chunks.Count;
            chunks.Sort(static (left, right) => left.Offset.CompareTo(right.Offset));
            return chunks;
        }
    }

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    private void Signal()
    {
        _changed.SetResult();
        _changed = NewSignal();
    }
}
