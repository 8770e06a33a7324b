using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;

namespace VirtBackup.Repository.Reading;

/// <summary>What a map node refers to: each child once, none zero.</summary>
/// <param name="Kind">Of all of them: chunks below a leaf, nodes below an inner node.</param>
/// <param name="Ids">Distinct.</param>
internal readonly record struct NodeChildren(RecordKind Kind, IReadOnlyCollection<Id32> Ids)
{
    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>, <see cref="FaultReason.Unsupported"/>.</exception>
    public static NodeChildren Of(ReadOnlyMemory<byte> node)
    {
        var ids = new HashSet<Id32>();
        if (MapNodeHead.Parse(node.Span).Kind == MapNodeKind.Leaf)
        {
            var leaf = MapLeaf.Parse(node);
            for (var i = 0; i < leaf.Count; i++)
            {
                if (!leaf.IdAt(i).IsZero)
                {
                    ids.Add(leaf.IdAt(i));
                }
            }
            return new NodeChildren(RecordKind.Data, ids);
        }
        var inner = MapInner.Parse(node);
        for (var i = 0; i < inner.Count; i++)
        {
            if (!inner[i].IsZero)
            {
                ids.Add(inner[i]);
            }
        }
        return new NodeChildren(RecordKind.Map, ids);
    }
}
