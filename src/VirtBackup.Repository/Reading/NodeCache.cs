using VirtBackup.Core;

namespace VirtBackup.Repository.Reading;

/// <summary>The map nodes that were used last, up to a number of bytes. Not safe for concurrent use.</summary>
internal sealed class NodeCache(NodeReader nodes, NodeBatch batches, int bytesMax)
{
    private const int NodesAheadMax = 64;

    private readonly Dictionary<Id32, LinkedListNode<(Id32 Id, byte[] Node)>> _byId = [];
    private readonly LinkedList<(Id32 Id, byte[] Node)> _byUse = new();
    private long _bytes;

    /// <summary>The node. When it has to be read, what will be asked for next comes with it, as much as half of the cache holds.</summary>
    /// <param name="id">The node.</param>
    /// <param name="next">It, and what will be asked for next.</param>
    /// <param name="cancellationToken">Stops between reads.</param>
    /// <exception cref="FaultException">As <see cref="NodeReader.ReadAsync"/> says.</exception>
    public async ValueTask<byte[]> ReadAsync(Id32 id, IEnumerable<Id32> next, CancellationToken cancellationToken)
    {
        if (Find(id) is { } known)
        {
            return known;
        }
        List<Id32> missing = [.. next.Where(candidate => !_byId.ContainsKey(candidate)).Distinct().Take(NodesAheadMax)];
        if (missing.Count > 1)
        {
            await batches.ReadAsync(missing, bytesMax / 2, Keep, cancellationToken);
        }
        if (Find(id) is { } fetched)
        {
            return fetched;
        }
        var node = await nodes.ReadAsync(id, cancellationToken);
        Keep(id, node);
        return node;
    }

    private byte[]? Find(Id32 id)
    {
        if (!_byId.TryGetValue(id, out var known))
        {
            return null;
        }
        _byUse.Remove(known);
        _byUse.AddFirst(known);
        return known.Value.Node;
    }

    private void Keep(Id32 id, byte[] node)
    {
        _byId.Add(id, _byUse.AddFirst((id, node)));
        _bytes += node.Length;
        while (_bytes > bytesMax && _byUse.Last is { } oldest && oldest != _byUse.First)
        {
            _byUse.RemoveLast();
            _byId.Remove(oldest.Value.Id);
            _bytes -= oldest.Value.Node.Length;
        }
    }
}
