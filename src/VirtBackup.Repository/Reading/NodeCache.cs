using VirtBackup.Core;

namespace VirtBackup.Repository.Reading;

/// <summary>The map nodes that were used last, up to a number of bytes. Not safe for concurrent use.</summary>
internal sealed class NodeCache(NodeReader nodes, int bytesMax)
{
    private readonly Dictionary<Id32, LinkedListNode<(Id32 Id, byte[] Node)>> _byId = [];
    private readonly LinkedList<(Id32 Id, byte[] Node)> _byUse = new();
    private long _bytes;

    public async ValueTask<byte[]> ReadAsync(Id32 id, CancellationToken cancellationToken)
    {
        if (_byId.TryGetValue(id, out var known))
        {
            _byUse.Remove(known);
            _byUse.AddFirst(known);
            return known.Value.Node;
        }
        var node = await nodes.ReadAsync(id, cancellationToken);
        _byId.Add(id, _byUse.AddFirst((id, node)));
        _bytes += node.Length;
        while (_bytes > bytesMax && _byUse.Last is { } oldest && oldest != _byUse.First)
        {
            _byUse.RemoveLast();
            _byId.Remove(oldest.Value.Id);
            _bytes -= oldest.Value.Node.Length;
        }
        return node;
    }
}
