using System.Buffers;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Scrubbing;

/// <summary>What is left of a damaged pack.</summary>
internal sealed class PackAutopsy
{
    /// <summary>Records that are proven sound without keys: map nodes.</summary>
    public List<IndexedRecord> Sound { get; } = [];

    /// <summary>Records whose header is sound, and whose payload only keys can prove.</summary>
    public List<IndexedRecord> Doubtful { get; } = [];

    public List<IndexedRecord> Lost { get; } = [];

    /// <summary>The object is not in the store.</summary>
    public bool IsMissing { get; private set; }

    /// <summary>The sound nodes, as records.</summary>
    public List<byte[]> Nodes { get; } = [];

    /// <summary>Looks at every record that a row of the index finds in the pack.</summary>
    public static async ValueTask<PackAutopsy> ExamineAsync(IObjectStore store, IDatabase index, PackRow pack, CancellationToken cancellationToken)
    {
        var autopsy = new PackAutopsy();
        var key = ObjectKeys.Pack(pack.Hash);
        var records = await ListAsync(store, index, pack, cancellationToken);
        autopsy.IsMissing = await store.FindAsync(key, cancellationToken) is null;
        if (autopsy.IsMissing)
        {
            autopsy.Lost.AddRange(records);
            return autopsy;
        }
        foreach (var record in records.OrderBy(static record => record.Position))
        {
            var buffer = ArrayPool<byte>.Shared.Rent(record.Header.RecordLength);
            try
            {
                var bytes = buffer.AsMemory(0, record.Header.RecordLength);
                await store.ReadExactlyAsync(key, record.Position, bytes, cancellationToken);
                autopsy.Judge(record, bytes.Span);
            }
            catch (FaultException fault) when (fault.Reason is FaultReason.Corrupt or FaultReason.NotFound)
            {
                autopsy.Lost.Add(record);
            }
            finally
            {
                ArrayPool<byte>.Shared.Return(buffer);
            }
        }
        return autopsy;
    }

    private static async ValueTask<List<IndexedRecord>> ListAsync(IObjectStore store, IDatabase index, PackRow pack, CancellationToken cancellationToken)
    {
        try
        {
            var footer = await PackReader.ReadFooterAsync(store, new ObjectInfo(ObjectKeys.Pack(pack.Hash), pack.Bytes), cancellationToken);
            var found = await index.ReadAsync(connection => PackRecords.Find(connection, pack.Number, footer.Entries), cancellationToken);
            if (found.Count == pack.Records - pack.DeadRecords)
            {
                return found;
            }
        }
        catch (FaultException fault) when (IncompleteWalk.IsDamage(fault))
        {
            // The index knows what lay in it.
        }
        return await index.ReadAsync(connection => PackRecords.Scan(connection, pack.Number), cancellationToken);
    }

    private void Judge(IndexedRecord record, ReadOnlySpan<byte> bytes)
    {
        if (!RecordHeader.TryParse(bytes, out var header) || header != record.Header)
        {
            Lost.Add(record);
        }
        else if (header.Kind == RecordKind.Data)
        {
            Doubtful.Add(record);
        }
        else if (NodeId.Compute(bytes[RecordHeader.Size..]) == header.Id)
        {
            Sound.Add(record);
            Nodes.Add(bytes.ToArray());
        }
        else
        {
            Lost.Add(record);
        }
    }
}
