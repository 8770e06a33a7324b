using VirtBackup.Core;
using VirtBackup.Format.Maps;

namespace VirtBackup.Agent.Capture;

/// <summary>One leaf while its chunks are under way. Chunks are set by different loops, each once.</summary>
internal sealed class SpanRun
{
    private readonly MapEntry[] _entries;
    private readonly MapLeaf? _base;
    private int _pending;

    public SpanRun(DiskRun disk, long leaf, MapLeaf? baseLeaf, TouchedSpan touched)
    {
        Disk = disk;
        Leaf = leaf;
        _base = baseLeaf;
        BaseId = disk.Map.BaseLeafId(leaf);
        Place = disk.Geometry.PlaceOf(0, leaf);
        _entries = new MapEntry[Place.FixedChunkCount];
        for (var i = 0; i < _entries.Length; i++)
        {
            if (touched.IsTouched(i))
            {
                _pending++;
                continue;
            }
            _entries[i] = disk.Source.ChangedOnly && baseLeaf is { } known ? known[i] : MapEntry.Zeros(LengthOf(i));
        }
    }

    public DiskRun Disk { get; }

    public long Leaf { get; }

    public MapPlace Place { get; }

    /// <summary>The base's leaf here, or zero.</summary>
    public Id32 BaseId { get; }

    public int ChunkCount => _entries.Length;

    public long OffsetOf(int chunk) => Disk.Geometry.OffsetOf(0, Leaf) + ((long)chunk << Place.Shape.ChunkLog2);

    public int LengthOf(int chunk) => (int)Math.Min(Place.Shape.ChunkBytes, Place.Length - ((long)chunk << Place.Shape.ChunkLog2));

    /// <summary>The base's entry here when it names the same chunk: it is copied, so that nodes stay shared.</summary>
    public bool TryGetSame(int chunk, Id32 id, out MapEntry entry)
    {
        if (_base is { } leaf && leaf.IdAt(chunk) == id)
        {
            entry = leaf[chunk];
            return true;
        }
        entry = default;
        return false;
    }

    /// <summary>Sets a chunk; true for the last one.</summary>
    public bool Set(int chunk, MapEntry entry)
    {
        _entries[chunk] = entry;
        return Interlocked.Decrement(ref _pending) == 0;
    }

    /// <summary>The finished leaf's bytes; null when all is zero.</summary>
    public byte[]? Build(ISet<Id16> epochs)
    {
        lock (epochs)
        {
            foreach (ref readonly var entry in _entries.AsSpan())
            {
                if (!entry.IsZero)
                {
                    epochs.Add(entry.EpochId);
                }
            }
        }
        return MapLeaf.Build(Place, _entries);
    }
}
