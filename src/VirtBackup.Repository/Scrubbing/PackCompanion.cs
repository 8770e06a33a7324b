using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Scrubbing;

/// <summary>A record of another pack, whose bytes were proven by that pack's name.</summary>
internal sealed record CompanionRecord(RecordHeader Header, ReadOnlyMemory<byte> Bytes, long CreatedMs);

/// <summary>
/// Finds a record that can lie beside the only record of a damaged pack, so that the pack of both has another name than the
/// damaged one, and the damaged one can stay until everything is safe. Holds one small pack.
/// </summary>
internal sealed class PackCompanion(IObjectStore store, IDatabase index)
{
    private const int PacksMax = 8;

    /// <param name="pack">The damaged pack.</param>
    /// <param name="record">Its only record.</param>
    /// <param name="cancellationToken">Stops between packs.</param>
    /// <returns>Null: none of the smallest packs of that kind can be proven.</returns>
    public async ValueTask<CompanionRecord?> FindAsync(PackRow pack, RecordHeader record, CancellationToken cancellationToken)
    {
        foreach (var other in await index.ReadAsync(connection => PackTable.ListSmallest(connection, pack.Kind, pack.Number, PacksMax), cancellationToken))
        {
            try
            {
                if (await FindInAsync(other, record, cancellationToken) is { } found)
                {
                    return found;
                }
            }
            catch (FaultException fault) when (StoreHealth.IsDamage(fault) || StoreHealth.IsUnreadable(fault))
            {
                // The next one may do.
            }
        }
        return null;
    }

    private async ValueTask<CompanionRecord?> FindInAsync(PackRow pack, RecordHeader beside, CancellationToken cancellationToken)
    {
        var bytes = new byte[pack.Bytes];
        await store.ReadExactlyAsync(ObjectKeys.Pack(pack.Hash), 0, bytes, cancellationToken);
        if (Id32.Read(SHA256.HashData(bytes)) != pack.Hash)
        {
            return null;
        }
        var entries = PackFooter.Parse(bytes, pack.Bytes).Entries.ToArray();
        var known = await index.ReadAsync(connection => PackRecords.Find(connection, pack.Number, entries), cancellationToken);
        var found = known.FirstOrDefault(record => (record.Header.Id, record.Header.Scope) != (beside.Id, beside.Scope));
        return found == default
            ? null
            : new CompanionRecord(found.Header, bytes.AsMemory((int)found.Position, found.Header.RecordLength), pack.CreatedMs);
    }
}
