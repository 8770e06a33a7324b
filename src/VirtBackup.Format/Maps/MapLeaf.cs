using System.Buffers.Binary;
using VirtBackup.Core;

namespace VirtBackup.Format.Maps;

/// <summary>One chunk of a leaf.</summary>
/// <param name="Length">Bytes of the chunk.</param>
/// <param name="Id">The chunk's id; zero for a run of zero bytes.</param>
/// <param name="MaskedSecret">The chunk's secret t, masked by the VM key of <paramref name="EpochId"/>; zero for a zero run.</param>
/// <param name="EpochId">Names the VM key; empty for a zero run.</param>
public readonly record struct MapEntry(int Length, Id32 Id, Id32 MaskedSecret, Id16 EpochId)
{
    public bool IsZero => Id.IsZero;

    /// <summary>A run of zero bytes.</summary>
    public static MapEntry Zeros(int length) => new(length, default, default, default);
}

/// <summary>
/// A view of a leaf's bytes: the chunks of one span of a stream, in order. The bytes are not copied and must not change
/// while the view is used.
/// </summary>
public readonly struct MapLeaf
{
    private readonly ReadOnlyMemory<byte> _node;
    private readonly long _coveredBytes;
    private readonly int _lengths;
    private readonly int _ids;
    private readonly int _secrets;
    private readonly int _epochs;

    private MapLeaf(ReadOnlyMemory<byte> node, MapNodeHead head, long coveredBytes)
    {
        _node = node;
        _coveredBytes = coveredBytes;
        Head = head;
        _lengths = MapNodeHead.Size + (head.EpochCount * Id16.Size);
        _ids = _lengths + (head.Shape.Chunker == Chunker.ContentDefined ? head.Count * 4 : 0);
        _secrets = _ids + (head.Count * Id32.Size);
        _epochs = _secrets + (head.Count * Id32.Size);
    }

    public MapNodeHead Head { get; }

    /// <summary>Chunks.</summary>
    public int Count => Head.Count;

    /// <summary>Key epochs that the entries use, ascending.</summary>
    public int EpochCount => Head.EpochCount;

    /// <summary>Entry <paramref name="index"/>. The length of a fixed map's last chunk is right only on a view made with its place.</summary>
    public MapEntry this[int index]
    {
        get
        {
            var id = IdAt(index);
            return id.IsZero
                ? MapEntry.Zeros(LengthAt(index))
                : new MapEntry(LengthAt(index), id, MaskedSecretAt(index), EpochAt(_node.Span[_epochs + index]));
        }
    }

    public Id16 EpochAt(int index)
    {
        Check.That((uint)index < (uint)EpochCount);
        return Id16.Read(_node.Span[(MapNodeHead.Size + (index * Id16.Size))..]);
    }

    public Id32 IdAt(int index)
    {
        Check.That((uint)index < (uint)Count);
        return Id32.Read(_node.Span[(_ids + (index * Id32.Size))..]);
    }

    public Id32 MaskedSecretAt(int index)
    {
        Check.That((uint)index < (uint)Count);
        return Id32.Read(_node.Span[(_secrets + (index * Id32.Size))..]);
    }

    /// <summary>Bytes of chunk <paramref name="index"/>.</summary>
    public int LengthAt(int index)
    {
        Check.That((uint)index < (uint)Count);
        return Head.Shape.Chunker == Chunker.ContentDefined
            ? BinaryPrimitives.ReadInt32LittleEndian(_node.Span[(_lengths + (index * 4))..])
            : (int)Math.Min(Head.Shape.ChunkBytes, _coveredBytes - ((long)index << Head.Shape.ChunkLog2));
    }

    /// <summary>Checks everything that does not need the leaf's place; for listing chunks during a rebuild.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>.</exception>
    public static MapLeaf Parse(ReadOnlyMemory<byte> node)
    {
        var head = MapNodeHead.Parse(node.Span);
        if (head.Kind != MapNodeKind.Leaf)
        {
            throw FaultException.Malformed("An inner map node stands where a leaf belongs.");
        }
        var leaf = new MapLeaf(node, head, (long)head.Count << head.Shape.ChunkLog2);
        if (leaf.FindViolation() is { } violation)
        {
            throw FaultException.Malformed($"The map leaf is not canonical: {violation}.");
        }
        return leaf;
    }

    /// <summary>Checks the leaf completely against the place it was found at.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>.</exception>
    public static MapLeaf Parse(ReadOnlyMemory<byte> node, MapPlace place)
    {
        var leaf = Parse(node);
        leaf.Head.RequirePlace(place, MapNodeKind.Leaf);
        var fits = place.Shape.Chunker == Chunker.Fixed ? leaf.Count == place.FixedChunkCount : leaf.SumOfLengths() == place.Length;
        return fits
            ? new MapLeaf(node, leaf.Head, place.Length)
            : throw FaultException.Malformed($"A map leaf does not cover the {place.Length} bytes of its place exactly.");
    }

    /// <summary>
    /// The leaf's bytes, or null when all entries are zero runs: such a leaf is named by the zero id and never stored.
    /// </summary>
    /// <param name="place">Where the leaf belongs; the entries must cover it exactly.</param>
    /// <param name="entries">The chunks in order.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: more than 256 key epochs; seal some entries anew.</exception>
    public static byte[]? Build(MapPlace place, ReadOnlySpan<MapEntry> entries)
    {
        RequireCover(place, entries);
        var epochs = EpochsOf(entries);
        if (epochs.Length == 0)
        {
            return null;
        }
        var head = new MapNodeHead(MapNodeKind.Leaf, 0, place.Shape, epochs.Length, entries.Length);
        var node = new byte[head.NodeLength];
        Check.That(node.Length <= Limits.NodeBytesMax);
        var writer = new ByteWriter(node);
        head.Write(ref writer);
        foreach (var epoch in epochs)
        {
            writer.Id16(epoch);
        }
        if (place.Shape.Chunker == Chunker.ContentDefined)
        {
            foreach (ref readonly var entry in entries)
            {
                writer.UInt32((uint)entry.Length);
            }
        }
        foreach (ref readonly var entry in entries)
        {
            writer.Id32(entry.Id);
        }
        foreach (ref readonly var entry in entries)
        {
            writer.Id32(entry.MaskedSecret);
        }
        foreach (ref readonly var entry in entries)
        {
            writer.Byte(entry.IsZero ? (byte)0 : (byte)Array.BinarySearch(epochs, entry.EpochId));
        }
        return node;
    }

    private static void RequireCover(MapPlace place, ReadOnlySpan<MapEntry> entries)
    {
        Check.That(place.Level == 0 && place.Shape.FindViolation() is null && place.Length > 0 && place.Length <= place.Shape.SpanBytes);
        var left = place.Length;
        foreach (ref readonly var entry in entries)
        {
            Check.That(entry.Length > 0 && entry.Length <= left);
            Check.That(place.Shape.Chunker == Chunker.ContentDefined
                ? entry.IsZero || entry.Length <= place.Shape.ChunkBytesMax
                : entry.Length == Math.Min(left, place.Shape.ChunkBytes));
            Check.That(!entry.IsZero || (entry.MaskedSecret.IsZero && entry.EpochId.IsEmpty));
            left -= entry.Length;
        }
        Check.That(left == 0);
    }

    private static Id16[] EpochsOf(ReadOnlySpan<MapEntry> entries)
    {
        var set = new SortedSet<Id16>();
        foreach (ref readonly var entry in entries)
        {
            if (!entry.IsZero)
            {
                set.Add(entry.EpochId);
            }
        }
        if (set.Count > Limits.EpochsPerLeafMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A map leaf would list {set.Count} key epochs; at most {Limits.EpochsPerLeafMax} are allowed.");
        }
        return [.. set];
    }

    private long SumOfLengths()
    {
        long sum = 0;
        for (var i = 0; i < Count; i++)
        {
            sum += (uint)LengthAt(i);
        }
        return sum;
    }

    private string? FindViolation()
    {
        for (var i = 1; i < EpochCount; i++)
        {
            if (EpochAt(i - 1) >= EpochAt(i))
            {
                return "its key epochs do not ascend strictly";
            }
        }
        Span<bool> used = stackalloc bool[Limits.EpochsPerLeafMax];
        used.Clear();
        var span = _node.Span;
        for (var i = 0; i < Count; i++)
        {
            var zero = IdAt(i).IsZero;
            var epoch = span[_epochs + i];
            if (zero ? epoch != 0 || !MaskedSecretAt(i).IsZero : epoch >= EpochCount)
            {
                return zero ? "a zero run carries a mask or a key epoch" : "an entry names a key epoch that is not listed";
            }
            if (Head.Shape.Chunker == Chunker.ContentDefined
                && (LengthAt(i) <= 0 || LengthAt(i) > (zero ? Head.Shape.SpanBytes : Head.Shape.ChunkBytesMax)))
            {
                return "a chunk's length is out of bounds";
            }
            used[epoch] |= !zero;
        }
        if (used[..EpochCount].Contains(false))
        {
            return "it lists a key epoch that no entry uses";
        }
        return Head.Shape.Chunker == Chunker.ContentDefined && SumOfLengths() > Head.Shape.SpanBytes ? "its chunks exceed its span" : null;
    }
}
