using System.Runtime.InteropServices;
using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;

namespace VirtBackup.Repository.Rebuilding;

/// <summary>A record of a pack's table of contents. Pack and scope are numbers within the rebuild.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 4)]
internal struct StoredRecord
{
    public Id32 Id;
    public int Pack;
    public int Scope;
    public uint Position;
    public int SealedLength;
    public int RawLength;
    public ushort IdGeneration;
    public RecordKind Kind;
    public RecordCodec Codec;

    /// <summary>The order of rows in the index.</summary>
    public readonly int CompareTo(in StoredRecord other)
    {
        var order = Id.CompareTo(other.Id);
        order = order != 0 ? order : Kind.CompareTo(other.Kind);
        order = order != 0 ? order : Scope.CompareTo(other.Scope);
        return order != 0 ? order : Pack.CompareTo(other.Pack);
    }
}

/// <summary>A leaf names a chunk: it must be stored with that length for the scope of the mark.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 4)]
internal struct ChunkReference
{
    public Id32 Id;
    public int Mark;
    public int Length;
}

/// <summary>An inner node names a node; both as marks.</summary>
internal readonly record struct NodeReference(int Parent, int Child);

/// <summary>A map node that lies in a pack.</summary>
internal struct StoredNode
{
    public Id32 Id;
    public int Pack;
    public uint Position;
    public int Length;

    /// <summary>Another place where the same node lies; -1: none.</summary>
    public int NextCopy;

    /// <summary>-1: no point reaches it.</summary>
    public int FirstMark;

    /// <summary>Distinct nodes that hold it.</summary>
    public int References;

    /// <summary>The last mark that was counted as one that holds it.</summary>
    public int LastParent;
}

/// <summary>A node at a place of a tree: complete there, unless something below it is missing.</summary>
internal struct TreeMark
{
    public MapPlace Place;
    public int Node;
    public int Scope;

    /// <summary>Key epochs used below it, as <see cref="EpochSets"/> number them.</summary>
    public int Epochs;

    /// <summary>The same node at another place; -1: none.</summary>
    public int Next;

    public bool IsBroken;

    /// <summary>Of the node's complete marks the one through which it counts as its children's holder.</summary>
    public bool Counts;
}
