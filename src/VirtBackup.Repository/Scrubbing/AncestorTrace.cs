using System.Buffers;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Reading;

namespace VirtBackup.Repository.Scrubbing;

/// <summary>
/// Finds every stored map node above some objects, whether a point reaches it or not, by reading the packs of map nodes
/// from the first to the last byte: once, and those with inner nodes once more for each level. Use an instance once.
/// </summary>
internal sealed class AncestorTrace(IObjectStore store, IDatabase index)
{
    private const int PacksPerPage = 64;

    private readonly HashSet<long> _withInner = [];

    /// <summary>False when a pack could not be read: then there may be more.</summary>
    public bool IsWhole { get; private set; } = true;

    /// <param name="chunks">Ids of chunks.</param>
    /// <param name="nodes">Ids of map nodes.</param>
    /// <param name="except">Numbers of packs that are damaged themselves.</param>
    /// <param name="exceptNodes">The sound nodes of those packs, as records.</param>
    /// <param name="cancellationToken">Stops between packs.</param>
    /// <returns>The nodes above, <paramref name="nodes"/> included.</returns>
    public async ValueTask<HashSet<Id32>> FindAsync(
        IReadOnlySet<Id32> chunks, IReadOnlySet<Id32> nodes, IReadOnlySet<long> except, IReadOnlyList<byte[]> exceptNodes, CancellationToken cancellationToken)
    {
        var found = new HashSet<Id32>(nodes);
        if (chunks.Count + nodes.Count == 0)
        {
            return found;
        }
        for (var round = 0; ; round++)
        {
            var before = found.Count;
            foreach (var record in exceptNodes)
            {
                Look(RecordHeader.Parse(record).Id, record.AsMemory(RecordHeader.Size), chunks, found, null);
            }
            await PassAsync(round == 0, chunks, found, except, cancellationToken);
            if (found.Count == before)
            {
                return found;
            }
        }
    }

    private async ValueTask PassAsync(bool isFirst, IReadOnlySet<Id32> chunks, HashSet<Id32> found, IReadOnlySet<long> except, CancellationToken cancellationToken)
    {
        for (long after = 0; ;)
        {
            var from = after;
            var page = await index.ReadAsync(connection => PackTable.ListLive(connection, RecordKind.Map, from, PacksPerPage), cancellationToken);
            if (page.Count == 0)
            {
                return;
            }
            after = page[^1].Number;
            foreach (var pack in page.Where(pack => !except.Contains(pack.Number) && (isFirst || _withInner.Contains(pack.Number))))
            {
                try
                {
                    await ReadAsync(pack, chunks, found, cancellationToken);
                }
                catch (FaultException fault) when (StoreHealth.IsDamage(fault))
                {
                    IsWhole = false;
                }
                catch (FaultException fault) when (StoreHealth.IsUnreadable(fault))
                {
                    // One bad place of the device must not keep damage elsewhere in use.
                    await store.RequireReadableAsync(cancellationToken);
                    IsWhole = false;
                }
            }
        }
    }

    private async ValueTask ReadAsync(PackRow pack, IReadOnlySet<Id32> chunks, HashSet<Id32> found, CancellationToken cancellationToken)
    {
        var key = ObjectKeys.Pack(pack.Hash);
        var entries = (await PackReader.ReadFooterAsync(store, new ObjectInfo(key, pack.Bytes), cancellationToken)).Entries.ToArray();
        Array.Sort(entries, static (left, right) => left.Offset.CompareTo(right.Offset));
        var buffer = ArrayPool<byte>.Shared.Rent(PackReader.ReadBytes + RecordHeader.Size);
        try
        {
            for (var i = 0; i < entries.Length;)
            {
                var (first, start) = (i, entries[i].Offset);
                var end = start + entries[i++].Header.RecordLength;
                while (i < entries.Length && entries[i].Offset + entries[i].Header.RecordLength - start <= PackReader.ReadBytes)
                {
                    end = entries[i].Offset + entries[i++].Header.RecordLength;
                }
                var read = buffer.AsMemory(0, (int)(end - start));
                await store.ReadExactlyAsync(key, start, read, cancellationToken);
                for (; first < i; first++)
                {
                    var entry = entries[first];
                    Look(entry.Header.Id, read.Slice((int)(entry.Offset - start) + RecordHeader.Size, entry.Header.SealedLength), chunks, found, pack.Number);
                }
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    private void Look(Id32 id, ReadOnlyMemory<byte> node, IReadOnlySet<Id32> chunks, HashSet<Id32> found, long? pack)
    {
        NodeChildren children;
        try
        {
            NodeId.Require(node.Span, id);
            children = NodeChildren.Of(node);
        }
        catch (FaultException fault) when (fault.Reason is FaultReason.Malformed or FaultReason.Unsupported or FaultReason.Corrupt)
        {
            // Damaged itself: its own turn comes, unless that is now.
            IsWhole &= found.Contains(id);
            return;
        }
        if (children.Kind == RecordKind.Map && pack is { } number)
        {
            _withInner.Add(number);
        }
        var wanted = children.Kind == RecordKind.Data ? chunks : found;
        if (children.Ids.Any(wanted.Contains))
        {
            found.Add(id);
        }
    }
}
