using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Maps;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Commits;

/// <summary>A node that is about to be marked complete, and its bytes, which name its children.</summary>
internal readonly record struct NodeMark(CompleteNode Complete, byte[] Node)
{
    /// <summary>
    /// Checks that all children are there, marks the node, and counts it as their parent if no mark of it has done so
    /// before. Its children must have been marked before it.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Incomplete"/>: a child is not stored, or is complete no longer.</exception>
    public void Write(ISqlConnection connection, long scopeNumber, Id16 scope)
    {
        var isNew = ReferenceCounts.TryHold(connection, Complete.Id);
        if (Complete.Place.Level == 0)
        {
            WriteChunks(connection, scopeNumber, scope, isNew);
        }
        else
        {
            WriteNodes(connection, scopeNumber, isNew);
        }
        CompleteNodeTable.Add(connection, scopeNumber, Complete);
    }

    private void WriteChunks(ISqlConnection connection, long scopeNumber, Id16 scope, bool isNew)
    {
        var leaf = MapLeaf.Parse(Node, Complete.Place);
        var counted = new HashSet<Id32>(leaf.Count);
        for (var i = 0; i < leaf.Count; i++)
        {
            var chunk = leaf.IdAt(i);
            if (chunk.IsZero)
            {
                continue;
            }
            var isStored = isNew && counted.Add(chunk)
                ? ReferenceCounts.TryAddChunk(connection, chunk, scopeNumber, leaf.LengthAt(i))
                : ReferenceCounts.HasChunk(connection, chunk, scopeNumber, leaf.LengthAt(i));
            if (!isStored)
            {
                throw new FaultException(FaultReason.Incomplete, $"The chunk {chunk} of {leaf.LengthAt(i)} bytes was never stored for scope {scope}.");
            }
        }
    }

    private void WriteNodes(ISqlConnection connection, long scopeNumber, bool isNew)
    {
        var inner = MapInner.Parse(Node, Complete.Place);
        var counted = new HashSet<Id32>(inner.Count);
        for (var i = 0; i < inner.Count; i++)
        {
            var child = inner[i];
            if (child.IsZero)
            {
                continue;
            }
            if (CompleteNodeTable.Find(connection, scopeNumber, child, Complete.Place.Child(i)) is null
                || (isNew && counted.Add(child) && !ReferenceCounts.TryAddNode(connection, child)))
            {
                throw new FaultException(FaultReason.Incomplete, $"The map node {child} was never stored, or something below it is gone.");
            }
        }
    }
}
