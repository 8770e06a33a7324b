using VirtBackup.Core;

namespace VirtBackup.Format.Maps;

/// <summary>
/// A view of an inner node's bytes: the ids of up to 64 children, zero where nothing but zero bytes lies below. The
/// bytes are not copied and must not change while the view is used.
/// </summary>
public readonly struct MapInner
{
    private readonly ReadOnlyMemory<byte> _node;

    private MapInner(ReadOnlyMemory<byte> node, MapNodeHead head)
    {
        _node = node;
        Head = head;
    }

    public MapNodeHead Head { get; }

    /// <summary>Children: 1 to 64.</summary>
    public int Count => Head.Count;

    /// <summary>The id of child <paramref name="index"/>; zero when all below it is zero.</summary>
    public Id32 this[int index]
    {
        get
        {
            Check.That((uint)index < (uint)Count);
            return Id32.Read(_node.Span[(MapNodeHead.Size + (index * Id32.Size))..]);
        }
    }

    /// <summary>Checks everything that does not need the node's place; for listing children during a rebuild.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>.</exception>
    public static MapInner Parse(ReadOnlyMemory<byte> node)
    {
        var head = MapNodeHead.Parse(node.Span);
        if (head.Kind != MapNodeKind.Inner)
        {
            throw FaultException.Malformed("A map leaf stands where an inner node belongs.");
        }
        if (!node.Span[MapNodeHead.Size..].ContainsAnyExcept((byte)0))
        {
            throw FaultException.Malformed("The map node is not canonical: all its children are zero.");
        }
        return new MapInner(node, head);
    }

    /// <summary>Checks the node completely against the place it was found at.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>.</exception>
    public static MapInner Parse(ReadOnlyMemory<byte> node, MapPlace place)
    {
        var inner = Parse(node);
        inner.Head.RequirePlace(place, MapNodeKind.Inner);
        if (inner.Count != place.ChildCount)
        {
            throw FaultException.Malformed($"A map node has {inner.Count} children where {place.ChildCount} cover its part of the stream.");
        }
        return inner;
    }

    /// <summary>The node's bytes, or null when all children are zero: such a node is named by the zero id and never stored.</summary>
    public static byte[]? Build(MapPlace place, ReadOnlySpan<Id32> children)
    {
        Check.That(place.Level is > 0 and <= MapNodeHead.LevelMax && children.Length == place.ChildCount);
        if (!children.ContainsAnyExcept(Id32.Zero))
        {
            return null;
        }
        var head = new MapNodeHead(MapNodeKind.Inner, place.Level, place.Shape, 0, children.Length);
        var node = new byte[head.NodeLength];
        var writer = new ByteWriter(node);
        head.Write(ref writer);
        foreach (var child in children)
        {
            writer.Id32(child);
        }
        return node;
    }
}
