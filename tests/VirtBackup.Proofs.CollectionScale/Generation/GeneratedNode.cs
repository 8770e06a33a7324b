using VirtBackup.Core;

namespace VirtBackup.Proofs.CollectionScale.Generation;

/// <summary>A map node as the index has to know it.</summary>
internal struct GeneratedNode
{
    public Id32 Id;

    /// <summary>Bytes of the stream that it covers.</summary>
    public long Covered;

    public long Pack;
    public uint Position;
    public int Length;

    /// <summary>Nodes and points that refer to it.</summary>
    public int Count;

    public short Machine;
    public short Point;
    public byte Level;
}
