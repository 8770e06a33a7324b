using VirtBackup.Core;
using VirtBackup.Format.Maps;

namespace VirtBackup.Agent.Capture;

/// <summary>
/// One leaf while its chunks are under way. Where all chunks have one length, what was not touched is settled from the start;
/// content-defined ones are added in order while they are cut. Each is set once, by any loop.
/// </summary>
internal sealed class SpanRun
{
    private readonly List<MapEntry> _entries;
    private readonly MapLeaf? _base;
    private Dictionary<Id32, int>? _baseById;
    private int _pending;

    public SpanRun(DiskRun disk, long leaf, MapLeaf? baseLeaf, TouchedSpan touched)
    {
        Disk = disk;
        Leaf = leaf;
        Touched = touched;
        _base = baseLeaf;
        BaseId = disk.Map.BaseLeafId(leaf);
        Place = disk.Geometry.PlaceOf(0, leaf);
        if (!IsFixed)
        {
            // The one that is released when all is cut.
            (_entries, _pending) = ([], 1);
            return;
        }
        _entries = new List<MapEntry>(Place.FixedChunkCount);
        for (var i = 0; i < Place.FixedChunkCount; i++)
        {
            _pending += touched.IsTouched(i) ? 1 : 0;
            _entries.Add(!touched.IsTouched(i) && disk.Source.ChangedOnly && baseLeaf is { } known ? known[i] : MapEntry.Zeros(LengthOf(i)));
        }
    }

    public DiskRun Disk { get; }

    public long Leaf { get; }

    public TouchedSpan Touched { get; }

    public MapPlace Place { get; }

    /// <summary>The base's leaf here, or zero.</summary>
    public Id32 BaseId { get; }

    public bool IsFixed => Place.Shape.Chunker == Chunker.Fixed;

    /// <summary>Chunks of one length in the span.</summary>
    public int ChunkCount => _entries.Count;

    public long SpanOffset => Disk.Geometry.OffsetOf(0, Leaf);

    public long OffsetOf(int chunk) => SpanOffset + ((long)chunk << Place.Shape.ChunkLog2);

    public int LengthOf(int chunk) => (int)Math.Min(Place.Shape.ChunkBytes, Place.Length - ((long)chunk << Place.Shape.ChunkLog2));

    /// <summary>Where nothing was touched, all is zero.</summary>
    public bool ReadsZerosWhereUntouched => !Disk.Source.ChangedOnly || _base is null;

    /// <summary>What the span holds where nothing was touched, content-defined: the base's entries, or one run of zeros.</summary>
    public IReadOnlyList<MapEntry> Untouched()
    {
        if (!Disk.Source.ChangedOnly || _base is not { } known)
        {
            return [MapEntry.Zeros((int)Place.Length)];
        }
        var entries = new MapEntry[known.Count];
        for (var i = 0; i < entries.Length; i++)
        {
            entries[i] = known[i];
        }
        return entries;
    }

    /// <summary>The base's entry for the same chunk: it is copied, so that nodes stay shared.</summary>
    public bool TryGetSame(int chunk, Id32 id, out MapEntry entry)
    {
        entry = default;
        if (_base is not { } leaf)
        {
            return false;
        }
        if (IsFixed)
        {
            if (leaf.IdAt(chunk) == id)
            {
                entry = leaf[chunk];
            }
            return !entry.IsZero;
        }
        lock (_entries)
        {
            if (_baseById is null)
            {
                _baseById = [];
                for (var i = 0; i < leaf.Count; i++)
                {
                    _baseById[leaf.IdAt(i)] = i;
                }
            }
            if (_baseById.TryGetValue(id, out var at))
            {
                entry = leaf[at];
            }
            return !entry.IsZero;
        }
    }

    /// <summary>Adds a content-defined chunk that is settled.</summary>
    public void Add(MapEntry entry)
    {
        lock (_entries)
        {
            _entries.Add(entry);
        }
    }

    /// <summary>Adds a content-defined chunk that will be set; its number.</summary>
    public int Reserve()
    {
        Interlocked.Increment(ref _pending);
        lock (_entries)
        {
            _entries.Add(default);
            return _entries.Count - 1;
        }
    }

    /// <summary>All content-defined chunks were added; true when none is under way.</summary>
    public bool FinishCutting() => Interlocked.Decrement(ref _pending) == 0;

    /// <summary>Sets a chunk; true for the last one.</summary>
    public bool Set(int chunk, MapEntry entry)
    {
        lock (_entries)
        {
            _entries[chunk] = entry;
        }
        return Interlocked.Decrement(ref _pending) == 0;
    }

    /// <summary>The finished leaf's bytes; null when all is zero.</summary>
    public byte[]? Build(ISet<Id16> epochs)
    {
        var entries = System.Runtime.InteropServices.CollectionsMarshal.AsSpan(_entries);
        lock (epochs)
        {
            foreach (ref readonly var entry in entries)
            {
                if (!entry.IsZero)
                {
                    epochs.Add(entry.EpochId);
                }
            }
        }
        return MapLeaf.Build(Place, entries);
    }
}
