using VirtBackup.Core;

namespace VirtBackup.Repository.Rebuilding;

/// <summary>
/// All map nodes that lie in packs, in the order in which they lie there, found by id. About 70 bytes for each. Not safe for
/// concurrent use.
/// </summary>
internal sealed class NodeTable
{
    private const int None = -1;

    private readonly PagedList<StoredNode> _nodes = new();

    // Open addressing; a slot holds a node's index and one.
    private int[] _slots = new int[64];
    private int _used;

    public int Count => _nodes.Count;

    public ref StoredNode this[int node] => ref _nodes[node];

    /// <summary>Adds a place where a node lies. Of several, the first one stands for the node.</summary>
    public void Add(Id32 id, int pack, uint position, int length)
    {
        var slot = SlotOf(id);
        var node = _nodes.Add(new StoredNode { Id = id, Pack = pack, Position = position, Length = length, NextCopy = None, FirstMark = None, LastParent = None });
        if (_slots[slot] == 0)
        {
            _slots[slot] = node + 1;
            if (++_used > _slots.Length / 3 * 2)
            {
                Grow();
            }
            return;
        }
        ref var first = ref _nodes[_slots[slot] - 1];
        (_nodes[node].NextCopy, first.NextCopy) = (first.NextCopy, node);
    }

    /// <summary>The node that is called so; -1: there is none.</summary>
    public int Find(Id32 id) => _slots[SlotOf(id)] - 1;

    private int SlotOf(Id32 id)
    {
        var mask = _slots.Length - 1;
        for (var slot = id.GetHashCode() & mask; ; slot = (slot + 1) & mask)
        {
            if (_slots[slot] == 0 || _nodes[_slots[slot] - 1].Id == id)
            {
                return slot;
            }
        }
    }

    private void Grow()
    {
        var old = _slots;
        _slots = new int[old.Length * 2];
        foreach (var entry in old)
        {
            if (entry > 0)
            {
                _slots[SlotOf(_nodes[entry - 1].Id)] = entry;
            }
        }
    }
}
