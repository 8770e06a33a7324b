using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Reading;

namespace VirtBackup.Repository.Commits;

/// <summary>
/// Proves that everything below a recovery point's roots is stored: descends, stops at nodes known to be complete at the
/// same place, reads and checks all others, and marks them complete from the bottom up. Memory is bounded by the tree's
/// height and one batch of marks. One walk at a time per instance.
/// </summary>
internal sealed class CompletenessWalk(
    IDatabase index, NodeReader nodes, Id16 vm, Id16 scope, EpochSet allowed, ILeafInspector? inspector)
{
    /// <summary>Marks that are collected before they are written.</summary>
    private const int MarksMax = 8192;

    private readonly Dictionary<(Id32, MapPlace), EpochSet> _marks = [];
    private readonly Dictionary<long, EpochSet> _sets = [];
    private readonly Dictionary<EpochSet, EpochSet> _interned = [];
    private long _scopeNumber;

    /// <summary>Complete nodes that are not in the index yet; the caller writes them with <see cref="WriteMarks"/>.</summary>
    public bool HasMarks => _marks.Count > 0;

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

    /// <summary>Writes what is not written yet.</summary>
    public void WriteMarks(ISqlConnection connection) =>
        CompleteNodeTable.Add(connection, _scopeNumber, _marks.Select(mark => new CompleteNode(mark.Key.Item1, mark.Key.Item2, mark.Value)));

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
                if (_marks.TryGetValue(child, out var known))
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
            _marks[(frame.Id, frame.Place)] = epochs;
            if (path.TryPeek(out var parent))
            {
                parent.Epochs = parent.Epochs.Union(epochs);
            }
            if (_marks.Count >= MarksMax)
            {
                await index.WriteAsync(WriteMarks, cancellationToken);
                _marks.Clear();
            }
        }
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
        var frame = new Frame(id, place);
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
        await index.ReadAsync(connection => RequireChunks(connection, leaf), cancellationToken);
        if (inspector is not null)
        {
            await inspector.InspectAsync(vm, leaf, cancellationToken);
        }
        return new Frame(id, place) { Epochs = set };
    }

    private void RequireChunks(ISqlConnection connection, MapLeaf leaf)
    {
        using var statement = connection.Prepare("SELECT 1 FROM object WHERE id = ?1 AND kind = ?2 AND scope = ?3 AND raw_length = ?4 LIMIT 1");
        statement.Bind(2, (long)RecordKind.Data).Bind(3, _scopeNumber);
        for (var i = 0; i < leaf.Count; i++)
        {
            var chunk = leaf.IdAt(i);
            if (chunk.IsZero)
            {
                continue;
            }
            if (!statement.Bind(1, chunk).Bind(4, leaf.LengthAt(i)).Step())
            {
                throw new FaultException(FaultReason.Incomplete, $"The chunk {chunk} of {leaf.LengthAt(i)} bytes was never stored for scope {scope}.");
            }
            statement.Reset();
        }
    }

    private async ValueTask<EpochSet?> FindCompleteAsync(Id32 id, MapPlace place, CancellationToken cancellationToken) =>
        await index.ReadAsync(connection => FindComplete(connection, id, place), cancellationToken);

    private EpochSet? FindComplete(ISqlConnection connection, Id32 id, MapPlace place)
    {
        if (_marks.TryGetValue((id, place), out var mark))
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

    private sealed class Frame(Id32 id, MapPlace place)
    {
        private int _next;

        public Id32 Id => id;

        public MapPlace Place => place;

        public EpochSet Epochs { get; set; } = EpochSet.Empty;

        /// <summary>Children that were not complete when the node was opened.</summary>
        public List<(Id32 Id, MapPlace Place)> Children { get; set; } = [];

        public (Id32 Id, MapPlace Place)? NextChild() => _next < Children.Count ? Children[_next++] : null;
    }
}
