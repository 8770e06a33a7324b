using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Maps;

namespace VirtBackup.Repository.Rebuilding;

/// <summary>
/// The trees of all points, as marks of nodes at places, and who refers to whom. About 50 bytes for each node that a point
/// reaches; references are spooled. Not safe for concurrent use.
/// </summary>
internal sealed class MapTrees(IScratch scratch)
{
    private readonly PagedList<TreeMark> _marks = new();
    private readonly BucketSpool<NodeReference> _references = new(scratch, MapNodeHead.LevelMax + 1);

    public NodeTable Nodes { get; } = new();

    public EpochSets Epochs { get; } = new();

    /// <summary>Which leaf names which chunk, by the first byte of the chunk's id.</summary>
    public BucketSpool<ChunkReference> Chunks { get; } = new(scratch, RebuildSpace.Buckets);

    public int LevelMax { get; private set; }

    public ref TreeMark this[int mark] => ref _marks[mark];

    /// <summary>The mark of that node at that place; -1: the node is not stored.</summary>
    public int Mark(Id32 id, int scope, MapPlace place)
    {
        var node = Nodes.Find(id);
        if (node < 0)
        {
            return -1;
        }
        ref var stored = ref Nodes[node];
        for (var mark = stored.FirstMark; mark >= 0; mark = _marks[mark].Next)
        {
            if (_marks[mark].Scope == scope && _marks[mark].Place == place)
            {
                return mark;
            }
        }
        LevelMax = Math.Max(LevelMax, place.Level);
        return stored.FirstMark = _marks.Add(new TreeMark { Place = place, Node = node, Scope = scope, Next = stored.FirstMark });
    }

    /// <summary>Notes what a mark's node names; what does not fit its place, or is not stored, breaks the mark.</summary>
    /// <returns>References.</returns>
    public int Descend(int mark, ReadOnlyMemory<byte> node)
    {
        try
        {
            return _marks[mark].Place.Level == 0 ? DescendLeaf(mark, node) : DescendInner(mark, node);
        }
        catch (FaultException fault) when (fault.Reason is FaultReason.Malformed or FaultReason.Unsupported)
        {
            _marks[mark].IsBroken = true;
            return 0;
        }
    }

    /// <summary>Finds which marks are broken because of what is below them, and counts which nodes the others hold.</summary>
    /// <returns>References between nodes.</returns>
    public long Settle()
    {
        long references = 0;
        for (var level = 1; level <= LevelMax; level++)
        {
            for (var block = 0; block < _references.BlocksOf(level); block++)
            {
                foreach (var reference in _references.ReadBlock(level, block))
                {
                    references++;
                    ref var parent = ref _marks[reference.Parent];
                    ref var child = ref _marks[reference.Child];
                    parent.IsBroken |= child.IsBroken;
                    parent.Epochs = Epochs.Union(parent.Epochs, child.Epochs);
                }
            }
        }
        for (var node = 0; node < Nodes.Count; node++)
        {
            ref var stored = ref Nodes[node];
            (stored.References, stored.LastParent) = (0, -1);
            var hasOne = false;
            for (var at = stored.FirstMark; at >= 0; at = _marks[at].Next)
            {
                ref var mark = ref _marks[at];
                mark.Counts = !mark.IsBroken && !hasOne;
                hasOne |= mark.Counts;
            }
        }
        CountNodes();
        return references;
    }

    private void CountNodes()
    {
        for (var level = 1; level <= LevelMax; level++)
        {
            for (var block = 0; block < _references.BlocksOf(level); block++)
            {
                foreach (var reference in _references.ReadBlock(level, block))
                {
                    ref var child = ref Nodes[_marks[reference.Child].Node];
                    // A node that names a child twice holds it once; its references stand together.
                    if (_marks[reference.Parent].Counts && child.LastParent != reference.Parent)
                    {
                        child.References++;
                        child.LastParent = reference.Parent;
                    }
                }
            }
        }
    }

    private int DescendLeaf(int mark, ReadOnlyMemory<byte> node)
    {
        var leaf = MapLeaf.Parse(node, _marks[mark].Place);
        _marks[mark].Epochs = Epochs.Of(leaf);
        var named = 0;
        for (var i = 0; i < leaf.Count; i++)
        {
            var id = leaf.IdAt(i);
            if (!id.IsZero)
            {
                named++;
                Chunks.Add(RebuildSpace.BucketOf(id), new ChunkReference { Id = id, Mark = mark, Length = leaf.LengthAt(i) });
            }
        }
        return named;
    }

    private int DescendInner(int mark, ReadOnlyMemory<byte> node)
    {
        var (place, scope) = (_marks[mark].Place, _marks[mark].Scope);
        var inner = MapInner.Parse(node, place);
        var named = 0;
        for (var i = 0; i < inner.Count; i++)
        {
            var id = inner[i];
            if (id.IsZero)
            {
                continue;
            }
            named++;
            var child = Mark(id, scope, place.Child(i));
            if (child < 0)
            {
                _marks[mark].IsBroken = true;
            }
            else
            {
                _references.Add(place.Level, new NodeReference(mark, child));
            }
        }
        return named;
    }
}
