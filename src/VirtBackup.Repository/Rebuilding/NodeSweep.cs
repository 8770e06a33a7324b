using System.Buffers;
using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;

namespace VirtBackup.Repository.Rebuilding;

/// <summary>
/// Reads many nodes in the order in which they lie in their packs, neighbours in one read. Every node is checked against its
/// id; another copy is tried when one is damaged.
/// </summary>
internal sealed class NodeSweep(RebuildSpace space, IObjectStore store)
{
    private const int ReadBytesMax = 1 << 20;
    private const int GapBytesMax = 64 << 10;
    private const int ReadsAhead = 3;

    /// <summary>The nodes with their bytes, which are valid until the next one; no bytes: no copy of it is whole.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Unavailable"/>: the store fails.</exception>
    public async IAsyncEnumerable<(int Node, ReadOnlyMemory<byte> Bytes)> ReadAsync(
        Func<int, bool> isWanted, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var reads = Plan(isWanted).ToAsyncEnumerable().ReadAheadAsync(range => ReadRangeAsync(range, cancellationToken), ReadsAhead, cancellationToken);
        await foreach (var (range, bytes) in reads)
        {
            foreach (var node in range.Nodes)
            {
                ReadOnlyMemory<byte> record = bytes is null ? default : bytes.AsMemory((int)(space.Trees.Nodes[node].Position - range.From), RecordBytesOf(node));
                if (!IsWhole(node, record.Span))
                {
                    record = await ReadCopyAsync(node, cancellationToken);
                }
                yield return (node, record.IsEmpty ? default : record[RecordHeader.Size..]);
            }
            if (bytes is not null)
            {
                ArrayPool<byte>.Shared.Return(bytes);
            }
        }
    }

    private IEnumerable<NodeRange> Plan(Func<int, bool> isWanted)
    {
        NodeRange? range = null;
        for (var node = 0; node < space.Trees.Nodes.Count; node++)
        {
            if (!isWanted(node))
            {
                continue;
            }
            var (pack, from, end) = PlaceOf(node);
            if (range is not null && range.Pack == pack && from - range.End <= GapBytesMax && end - range.From <= ReadBytesMax)
            {
                range.Nodes.Add(node);
                range.End = end;
                continue;
            }
            if (range is not null)
            {
                yield return range;
            }
            range = new NodeRange { Pack = pack, From = from, End = end, Nodes = [node] };
        }
        if (range is not null)
        {
            yield return range;
        }
    }

    private async ValueTask<(NodeRange Range, byte[]? Bytes)> ReadRangeAsync(NodeRange range, CancellationToken cancellationToken)
    {
        var length = (int)(range.End - range.From);
        var bytes = ArrayPool<byte>.Shared.Rent(length);
        try
        {
            await store.ReadExactlyAsync(KeyOf(range.Pack), range.From, bytes.AsMemory(0, length), cancellationToken);
            return (range, bytes);
        }
        catch (FaultException fault) when (StoreHealth.IsDamage(fault) || fault.Reason == FaultReason.Unavailable)
        {
            // Each node is then read alone.
            ArrayPool<byte>.Shared.Return(bytes);
            return (range, null);
        }
    }

    private async ValueTask<ReadOnlyMemory<byte>> ReadCopyAsync(int first, CancellationToken cancellationToken)
    {
        FaultException? unavailable = null;
        for (var node = first; node >= 0; node = space.Trees.Nodes[node].NextCopy)
        {
            var record = new byte[RecordBytesOf(node)];
            try
            {
                await store.ReadExactlyAsync(KeyOf(space.Trees.Nodes[node].Pack), space.Trees.Nodes[node].Position, record, cancellationToken);
                if (IsWhole(node, record))
                {
                    return record;
                }
            }
            catch (FaultException fault) when (StoreHealth.IsDamage(fault))
            {
                // Another copy may be whole.
            }
            catch (FaultException fault) when (fault.Reason == FaultReason.Unavailable)
            {
                unavailable = fault;
            }
        }
        return unavailable is null ? default : throw new FaultException(FaultReason.Unavailable, unavailable.Message, unavailable);
    }

    private bool IsWhole(int node, ReadOnlySpan<byte> record) =>
        RecordHeader.TryParse(record, out var header) && header.Kind == RecordKind.Map && header.Id == space.Trees.Nodes[node].Id
        && header.RecordLength == record.Length && NodeId.Compute(record[RecordHeader.Size..]) == header.Id;

    private string KeyOf(int pack) => ObjectKeys.Pack(space.Packs[pack].Hash);

    private int RecordBytesOf(int node) => RecordHeader.Size + space.Trees.Nodes[node].Length;

    private (int Pack, long From, long End) PlaceOf(int node)
    {
        ref var stored = ref space.Trees.Nodes[node];
        return (stored.Pack, stored.Position, stored.Position + RecordBytesOf(node));
    }

    private sealed class NodeRange
    {
        public required int Pack { get; init; }

        public required long From { get; init; }

        public required long End { get; set; }

        public required List<int> Nodes { get; init; }
    }
}
