using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;

namespace VirtBackup.Repository.Replication;

/// <summary>
/// Looks at some nodes: those that are complete here are done, those that are stored here are read here, the others are asked for.
/// Notes their children, and which of their chunks are missing. What it receives waits for nothing that is asked for later, so that
/// answers may come in the order of calls. Use an instance once.
/// </summary>
internal sealed class NodeCall(ReplicaFetch fetch, List<OpenNode> nodes)
{
    private const int ChunksPerLook = 4096;
    private const int LocalBytes = 4 << 20;

    private readonly List<OpenNode> _children = [];
    private readonly List<NamedChunk> _chunks = [];

    public async Task RunAsync(CancellationToken cancellationToken)
    {
        await Task.Yield();
        var (asked, local) = await SortAsync(cancellationToken);
        await ReceiveAsync(asked, cancellationToken);
        await ReadLocalAsync(local, cancellationToken);
        await LookAsync(cancellationToken);
        fetch.Plan.AddNodes(_children);
    }

    private async ValueTask<(List<OpenNode> Asked, List<OpenNode> Local)> SortAsync(CancellationToken cancellationToken)
    {
        var (asked, local) = (new List<OpenNode>(), new List<OpenNode>());
        using var looking = await fetch.Looking.CloseAsync(cancellationToken);
        fetch.MapLane.Settle();
        var found = await fetch.Lookup.FindNodesAsync(nodes, cancellationToken);
        for (var i = 0; i < found.Length; i++)
        {
            if (found[i] == NodePresence.Complete)
            {
                continue;
            }
            if (found[i] == NodePresence.Stored && !nodes[i].IsUnreadable)
            {
                local.Add(nodes[i]);
            }
            else if (fetch.MapLane.TryAsk(nodes[i].Id))
            {
                asked.Add(nodes[i]);
            }
            else
            {
                fetch.Plan.Defer(nodes[i]);
            }
        }
        return (asked, local);
    }

    private async ValueTask ReceiveAsync(List<OpenNode> asked, CancellationToken cancellationToken)
    {
        if (asked.Count == 0)
        {
            return;
        }
        var next = 0;
        using var cutter = new RecordCutter(header =>
        {
            if (next == asked.Count || header.Kind != RecordKind.Map || header.Id != asked[next].Id)
            {
                throw FaultException.Malformed($"It sent the record {header.Id}, which was not the next that was asked for.");
            }
        });
        await foreach (var slice in fetch.Source.ReadNodesAsync(fetch.Point, asked.ConvertAll(static node => node.Id), cancellationToken))
        {
            fetch.Counts.AddReceived(slice.Length);
            for (var at = 0; at < slice.Length;)
            {
                at += cutter.Take(slice.Span[at..], out var record);
                if (record is { } whole)
                {
                    await TakeAsync(asked[next++], whole, cancellationToken);
                }
            }
            if (fetch.Plan.IsFull && next < asked.Count)
            {
                PutBack(asked.GetRange(next, asked.Count - next));
                return;
            }
        }
        if (next < asked.Count || cutter.IsInside)
        {
            throw FaultException.Malformed($"It sent {next} of {asked.Count} map nodes.");
        }
    }

    private async ValueTask TakeAsync(OpenNode at, ReadOnlyMemory<byte> record, CancellationToken cancellationToken)
    {
        var node = record[RecordHeader.Size..];
        NodeId.Require(node.Span, at.Id);
        Note(at, node);
        await fetch.MapLane.AppendAsync(record, at.Id, fetch.Stopping);
        fetch.Counts.AddNode();
        if (_chunks.Count >= ChunksPerLook)
        {
            await LookAsync(cancellationToken);
        }
    }

    private void PutBack(List<OpenNode> left)
    {
        left.ForEach(node => fetch.MapLane.GiveUp(node.Id));
        _children.AddRange(left.Select(static node => node with { IsAgain = true }));
    }

    private async ValueTask ReadLocalAsync(List<OpenNode> local, CancellationToken cancellationToken)
    {
        // An id may stand at several places.
        var places = local.ToLookup(static node => node.Id);
        List<Id32> left = [.. places.Select(static group => group.Key)];
        while (left.Count > 0)
        {
            var read = new HashSet<Id32>();
            await fetch.NodeBatches.ReadAsync(
                left,
                LocalBytes,
                (id, node) =>
                {
                    read.Add(id);
                    Note(places[id], node);
                },
                cancellationToken);
            if (read.Count == 0)
            {
                read.Add(left[0]);
                await ReadAloneAsync(left[0], places[left[0]], cancellationToken);
            }
            left.RemoveAll(read.Contains);
            if (_chunks.Count >= ChunksPerLook)
            {
                await LookAsync(cancellationToken);
            }
        }
    }

    private async ValueTask ReadAloneAsync(Id32 id, IEnumerable<OpenNode> places, CancellationToken cancellationToken)
    {
        try
        {
            Note(places, await fetch.NodeReader.ReadAsync(id, cancellationToken));
        }
        catch (FaultException fault) when (fault.Reason is FaultReason.NotFound or FaultReason.Corrupt or FaultReason.Unavailable)
        {
            // The source has a sound one, which heals it here.
            _children.AddRange(places.Select(static node => node with { IsAgain = true, IsUnreadable = true }));
        }
    }

    private void Note(IEnumerable<OpenNode> places, byte[] node)
    {
        foreach (var at in places)
        {
            Note(at, node);
        }
    }

    private void Note(OpenNode at, ReadOnlyMemory<byte> node)
    {
        if (at.Place.Level == 0)
        {
            var leaf = MapLeaf.Parse(node, at.Place);
            var offset = at.Offset;
            for (var i = 0; i < leaf.Count; i++)
            {
                var length = leaf.LengthAt(i);
                if (!leaf.IdAt(i).IsZero)
                {
                    _chunks.Add(new NamedChunk(leaf.IdAt(i), length, at.Stream, offset));
                }
                offset += length;
            }
            return;
        }
        var inner = MapInner.Parse(node, at.Place);
        for (var i = 0; i < inner.Count; i++)
        {
            if (!inner[i].IsZero)
            {
                _children.Add(new OpenNode(inner[i], at.Place.Child(i), at.Stream, at.Offset + (i * at.Place.ChildBytes)));
            }
        }
    }

    /// <summary>Finds which of the chunks gathered so far are missing, and empties the list.</summary>
    private async ValueTask LookAsync(CancellationToken cancellationToken)
    {
        foreach (var chunks in _chunks.Chunk(ChunksPerLook))
        {
            var missing = new List<NamedChunk>();
            // One at a time: what is asked for becomes durable between a look and its use otherwise.
            using (await fetch.Looking.CloseAsync(cancellationToken))
            {
                fetch.DataLane.Settle();
                var found = await fetch.Lookup.FindChunksAsync(chunks, cancellationToken);
                for (var i = 0; i < found.Length; i++)
                {
                    if (!found[i] && fetch.DataLane.TryAsk(chunks[i].Id))
                    {
                        missing.Add(chunks[i]);
                    }
                }
            }
            fetch.Counts.AddMissing(missing.Sum(static chunk => (long)chunk.Length));
            fetch.Plan.AddMissing(missing);
        }
        _chunks.Clear();
    }
}
