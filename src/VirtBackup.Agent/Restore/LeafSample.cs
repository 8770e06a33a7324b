using System.Buffers.Binary;
using VirtBackup.Core;
using VirtBackup.Format.Maps;

namespace VirtBackup.Agent.Restore;

/// <summary>A few leaves of a map, each as likely to be among them as any other, taken while all go by.</summary>
internal sealed class LeafSample(int countMax, IEntropy entropy)
{
    private readonly List<(long Index, MapLeaf Leaf)> _taken = [];
    private long _seen;

    /// <summary>Ascending.</summary>
    public IReadOnlyList<(long Index, MapLeaf Leaf)> Leaves => [.. _taken.OrderBy(static leaf => leaf.Index)];

    public void Offer(long index, MapLeaf leaf)
    {
        _seen++;
        if (_taken.Count < countMax)
        {
            _taken.Add((index, leaf));
            return;
        }
        Span<byte> bytes = stackalloc byte[sizeof(ulong)];
        entropy.Fill(bytes);
        // The bias of the remainder is below 2^-40 for any disk.
        var place = BinaryPrimitives.ReadUInt64LittleEndian(bytes) % (ulong)_seen;
        if (place < (ulong)countMax)
        {
            _taken[(int)place] = (index, leaf);
        }
    }
}
