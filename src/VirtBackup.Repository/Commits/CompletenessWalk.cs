using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Reading;

namespace VirtBackup.Repository.Commits;

/// <summary>
/// Proves that everything below a recovery point's roots is stored: descends, stops at nodes known to be complete at the
/// same place, reads all others, and marks them complete from the bottom up: the transaction that marks a node checks its
/// children and counts it as their parent. Memory is bounded by the tree's height and one batch of marks. One walk at a time
/// per instance.
/// </summary>
internal sealed class CompletenessWalk(
    IDatabase index, NodeReader nodes, Id16 vm, Id16 scope, EpochSet allowed, ILeafInspector? inspector)
{
    /// <summary>Children of the nodes whose marks are collected before they are written.</summary>
    private const int ChildrenMax = 16 << 10;

    // In the order in which nodes were done: children first.
    private readonly List<NodeMark> _marks = [];
    private readonly Dictionary<(Id32, MapPlace), EpochSet> _marked = [];
    private int _children;
    private readonly Dictionary<long, EpochSet> _sets = [];
    private readonly Dictionary<EpochSet, EpochSet> _interned = [];
    private long _scopeNumber;

    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Incomplete"/>: something below the roots is not stored, or uses a key epoch that is not listed;
    /// <see cref="FaultReason.Malformed"/>: a node does not fit its place; <see cref="FaultReason.Corrupt"/>: a node is damaged;
    /// or what the inspector says.
    /// </exception>
    public async ValueTask WalkAsync(IReadOnlyList<ManifestStream> streams, CancellationToken cancellationToken)
    {
        _scopeNumber = await index.WriteAsync(connection => ObjectTable.AddScope(connection, scope), cancellationToken);
        foreach (var stream in streams)
        {
            if (!stream.Root.IsZero)
            {
                try
                {
                    await WalkTreeAsync(stream.Root, stream.Geometry.Root, cancellationToken);
                }
                catch (FaultException fault)
                {
                    throw new FaultException(fault.Reason, $"Stream {stream.Id}: {fault.Message}", fault);
                }
            }
        }
    }

    private async ValueTask WriteMarksAsync(CancellationToken cancellationToken)
    {
        if (_marks.Count > 0)
        {
            await index.WriteAsync(
                connection =>
                {
                    foreach (var mark in _marks)
                    {
                        mark.Write(connection, _scopeNumber, scope);
                    }
                },
                cancellationToken);
            _marks.Clear();
            _marked.Clear();
            _children = 0;
        }
    }

    private async ValueTask WalkTreeAsync(Id32 root, MapPlace place, CancellationToken cancellationToken)
    {
        if (await FindCompleteAsync(root, place, cancellationToken) is not null)
        {
            return;
        }
        var path = new Stack<Frame>();
        path.Push(await OpenAsync(root, place, cancellationToken));
        while (path.TryPeek(out var frame))
        {
            if (frame.NextChild() is { } child)
            {
                // It may have been completed meanwhile, as another child of this node.
                if (await FindCompleteAsync(child.Id, child.Place, cancellationToken) is { } known)
                {
                    frame.Epochs = frame.Epochs.Union(known);
                }
                else
                {
                    path.Push(await OpenAsync(child.Id, child.Place, cancellationToken));
                }
                continue;
            }
            path.Pop();
            var epochs = Intern(frame.Epochs);
            _marked[(frame.Id, frame.Place)] = epochs;
            _marks.Add(new NodeMark(new CompleteNode(frame.Id, frame.Place, epochs), frame.Node));
            _children += frame.ChildCount;
            if (path.TryPeek(out var parent))
            {
                parent.Epochs = parent.Epochs.Union(epochs);
            }
            if (_children >= ChildrenMax)
            {
                await WriteMarksAsync(cancellationToken);
            }
        }
        await WriteMarksAsync(cancellationToken);
    }

    /// <summary>Reads a node and settles everything about it but its unknown children.</summary>
    private async ValueTask<Frame> OpenAsync(Id32 id, MapPlace place, CancellationToken cancellationToken)
    {
        byte[] node;
        try
        {
            node = await nodes.ReadAsync(id, cancellationToken);
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.NotFound)
        {
            throw new FaultException(FaultReason.Incomplete, $"The map node {id} was never stored.", fault);
        }
        if (place.Level == 0)
        {
            return await OpenLeafAsync(id, place, node, cancellationToken);
        }
        var inner = MapInner.Parse(node, place);
        var frame = new Frame(id, place, node, inner.Count);
        var unknown = await index.ReadAsync(
            connection =>
            {
                var open = new List<(Id32, MapPlace)>();
                for (var i = 0; i < inner.Count; i++)
                {
                    if (inner[i].IsZero)
                    {
                        continue;
                    }
                    var child = (inner[i], place.Child(i));
                    if (FindComplete(connection, child.Item1, child.Item2) is { } epochs)
                    {
                        frame.Epochs = frame.Epochs.Union(epochs);
                    }
                    else
                    {
                        open.Add(child);
                    }
                }
                return open;
            },
            cancellationToken);
        frame.Children = unknown;
        return frame;
    }

    private async ValueTask<Frame> OpenLeafAsync(Id32 id, MapPlace place, byte[] node, CancellationToken cancellationToken)
    {
        var leaf = MapLeaf.Parse(node, place);
        var epochs = new Id16[leaf.EpochCount];
        for (var i = 0; i < epochs.Length; i++)
        {
            epochs[i] = leaf.EpochAt(i);
        }
        var set = RequireAllowed(EpochSet.Create(epochs));
        if (inspector is not null)
        {
            await inspector.InspectAsync(vm, leaf, cancellationToken);
        }
        return new Frame(id, place, node, leaf.Count) { Epochs = set };
    }

    private async ValueTask<EpochSet?> FindCompleteAsync(Id32 id, MapPlace place, CancellationToken cancellationToken) =>
        await index.ReadAsync(connection => FindComplete(connection, id, place), cancellationToken);

    private EpochSet? FindComplete(ISqlConnection connection, Id32 id, MapPlace place)
    {
        if (_marked.TryGetValue((id, place), out var mark))
        {
            return mark;
        }
        if (CompleteNodeTable.Find(connection, _scopeNumber, id, place) is not { } number)
        {
            return null;
        }
        if (!_sets.TryGetValue(number, out var set))
        {
            _sets.Add(number, set = CompleteNodeTable.ReadEpochSet(connection, number));
        }
        return RequireAllowed(set);
    }

    private EpochSet RequireAllowed(EpochSet set)
    {
        if (!allowed.Contains(set))
        {
            foreach (var epoch in set.Members)
            {
                if (!allowed.Contains(EpochSet.Create([epoch])))
                {
                    throw new FaultException(FaultReason.Incomplete, $"Its map uses the key epoch {epoch}, which the manifest does not list.");
                }
            }
        }
        return Intern(set);
    }

    private EpochSet Intern(EpochSet set)
    {
        if (_interned.TryGetValue(set, out var known))
        {
            return known;
        }
        _interned.Add(set, set);
        return set;
    }

    private sealed class Frame(Id32 id, MapPlace place, byte[] node, int childCount)
    {
        private int _next;

        public Id32 Id => id;

        public MapPlace Place => place;

        public byte[] Node => node;

        public int ChildCount => childCount;

        public EpochSet Epochs { get; set; } = EpochSet.Empty;

        /// <summary>Children that were not complete when the node was opened.</summary>
        public List<(Id32 Id, MapPlace Place)> Children { get; set; } = [];

        public (Id32 Id, MapPlace Place)? NextChild() => _next < Children.Count ? Children[_next++] : null;
    }
}
