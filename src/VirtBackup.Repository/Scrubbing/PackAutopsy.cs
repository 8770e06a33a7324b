using System.Buffers;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Scrubbing;

/// <summary>What is left of a damaged pack.</summary>
internal sealed class PackAutopsy
{
    /// <summary>Records that are proven sound: map nodes at first, which need no keys.</summary>
    public List<ProvenRecord> Sound { get; } = [];

    /// <summary>Records whose header is sound, and whose payload only keys can prove.</summary>
    public List<IndexedRecord> Doubtful { get; } = [];

    /// <summary>Records that the device does not give out; they may be sound, and stay in doubt.</summary>
    public List<IndexedRecord> Unreadable { get; } = [];

    public List<IndexedRecord> Lost { get; } = [];

    /// <summary>The object is not in the store.</summary>
    public bool IsMissing { get; private set; }

    /// <summary>The sound nodes, as records.</summary>
    public List<byte[]> Nodes { get; } = [];

    /// <summary>Looks at every record that a row of the index finds in the pack.</summary>
    /// <param name="store">Where the pack is.</param>
    /// <param name="index">What it should hold.</param>
    /// <param name="pack">The pack.</param>
    /// <param name="entries">From <see cref="ListEntriesAsync"/>, a moment ago.</param>
    /// <param name="mayBeUnreadable">Records that cannot be read are told, rather than the first of them thrown.</param>
    /// <param name="cancellationToken">Stops between records.</param>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Unavailable"/>: the store is gone, or, unless told, a record cannot be read or comes differently each time.
    /// </exception>
    public static async ValueTask<PackAutopsy> ExamineAsync(
        IObjectStore store, IDatabase index, PackRow pack, PackEntry[] entries, bool mayBeUnreadable, CancellationToken cancellationToken)
    {
        var autopsy = new PackAutopsy();
        // A device that is not mounted any more lacks everything.
        await store.RequireReadableAsync(cancellationToken);
        var records = await ListAsync(index, pack, entries, cancellationToken);
        autopsy.IsMissing = await store.FindAsync(ObjectKeys.Pack(pack.Hash), cancellationToken) is null;
        if (autopsy.IsMissing)
        {
            autopsy.Lost.AddRange(records);
            return autopsy;
        }
        var reader = new PackRecordReader(store, pack);
        foreach (var record in records.OrderBy(static record => record.Position))
        {
            var buffer = ArrayPool<byte>.Shared.Rent(record.Header.RecordLength);
            try
            {
                var bytes = buffer.AsMemory(0, record.Header.RecordLength);
                var isRead = await reader.TryReadAsync(record, bytes, cancellationToken);
                if (!isRead || !autopsy.TryAccept(record, bytes.Span))
                {
                    await reader.RequireSameAsync(record, isRead ? PackRecordReader.HashOf(bytes.Span) : null, bytes, cancellationToken);
                    autopsy.Lost.Add(record);
                }
            }
            catch (FaultException fault) when (mayBeUnreadable && StoreHealth.IsUnreadable(fault))
            {
                await store.RequireReadableAsync(cancellationToken);
                autopsy.Unreadable.Add(record);
            }
            finally
            {
                ArrayPool<byte>.Shared.Return(buffer);
            }
        }
        return autopsy;
    }

    /// <summary>What the pack should hold: by its own table of contents, or by a look at every row of the index.</summary>
    public static async ValueTask<PackEntry[]> ListEntriesAsync(IObjectStore store, IDatabase index, PackRow pack, CancellationToken cancellationToken)
    {
        try
        {
            var footer = await PackReader.ReadFooterAsync(store, new ObjectInfo(ObjectKeys.Pack(pack.Hash), pack.Bytes), cancellationToken);
            return footer.Entries.ToArray();
        }
        catch (FaultException fault) when (StoreHealth.IsDamage(fault) || StoreHealth.IsUnreadable(fault))
        {
            await store.RequireReadableAsync(cancellationToken);
            var records = await index.ReadAsync(connection => PackRecords.Scan(connection, pack.Number), cancellationToken);
            return [.. records.Select(static record => new PackEntry(record.Header, checked((uint)record.Position)))];
        }
    }

    private static ValueTask<List<IndexedRecord>> ListAsync(IDatabase index, PackRow pack, PackEntry[] entries, CancellationToken cancellationToken) =>
        index.ReadAsync(
            connection =>
            {
                var found = PackRecords.Find(connection, pack.Number, entries);
                return found.Count == pack.Records - pack.DeadRecords ? found : PackRecords.Scan(connection, pack.Number);
            },
            cancellationToken);

    /// <summary>False: these bytes are not the record.</summary>
    private bool TryAccept(IndexedRecord record, ReadOnlySpan<byte> bytes)
    {
        if (!RecordHeader.TryParse(bytes, out var header) || header != record.Header)
        {
            return false;
        }
        if (header.Kind == RecordKind.Data)
        {
            Doubtful.Add(record);
            return true;
        }
        if (NodeId.Compute(bytes[RecordHeader.Size..]) != header.Id)
        {
            return false;
        }
        Sound.Add(new ProvenRecord(record, PackRecordReader.HashOf(bytes)));
        Nodes.Add(bytes.ToArray());
        return true;
    }
}
