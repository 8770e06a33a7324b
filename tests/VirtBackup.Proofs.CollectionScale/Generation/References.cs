using System.Runtime.InteropServices;

namespace VirtBackup.Proofs.CollectionScale.Generation;

/// <summary>How often each object is referred to, and what the deletion of each point alone would free.</summary>
internal sealed class References(HistoryShape shape)
{
    private readonly ushort[] _chunks = new ushort[shape.Chunks];
    private readonly Dictionary<(int Machine, int Point), Freed> _freed = [];

    public List<GeneratedNode> Nodes { get; } = [];

    public int CountOf(long chunk) => _chunks[chunk];

    /// <summary>No leaf names a chunk twice, so that every call is another leaf.</summary>
    public void CountChunk(long chunk) => _chunks[chunk] = checked((ushort)(_chunks[chunk] + 1));

    public void CountNode(int node) => CollectionsMarshal.AsSpan(Nodes)[node].Count++;

    public Freed FreedBy(Victim victim) => _freed.GetValueOrDefault((victim.Machine, victim.Point));

    /// <summary>A chunk that this point alone holds.</summary>
    public void NoteFreedChunk(int machine, int point) => Note(machine, point, new Freed(1, 0));

    /// <summary>A node that this point alone holds.</summary>
    public void NoteFreedNode(int machine, int point) => Note(machine, point, new Freed(0, 1));

    private void Note(int machine, int point, Freed more)
    {
        var known = _freed.GetValueOrDefault((machine, point));
        _freed[(machine, point)] = new Freed(known.Chunks + more.Chunks, known.Nodes + more.Nodes);
    }
}

/// <summary>What the deletion of one point frees.</summary>
internal readonly record struct Freed(long Chunks, long Nodes);
