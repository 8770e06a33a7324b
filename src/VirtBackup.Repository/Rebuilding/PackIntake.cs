using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Packs;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Rebuilding;

/// <summary>
/// Reads the tables of contents of packs that an index lacks, and adds them in large transactions. Damaged packs are told
/// and left out. Runs once.
/// </summary>
/// <param name="generation">Of the owner; 0: nobody's.</param>
/// <param name="report">Told the key of an object that is no sound pack, and why.</param>
internal sealed class PackIntake(
    IObjectStore store, IDatabase index, long generation, TimeProvider clock, Action<string, string> report, IProgress<RebuildProgress>? progress)
{
    private const int RowsPerTransaction = 32 << 10;

    private readonly List<StoredPack> _batch = [];
    private int _batchRows;

    /// <summary>Packs and records that were added.</summary>
    public RebuildProgress Done { get; private set; }

    /// <summary>Adds the packs that the index lacks; returns how many of the live ones that it knew are there.</summary>
    public async ValueTask<long> RunAsync(CancellationToken cancellationToken)
    {
        long known = 0;
        await foreach (var info in store.ListAsync(ObjectKeys.PacksPrefix, cancellationToken))
        {
            if (!ObjectKeys.TryParsePack(info.Key, out var hash))
            {
                report(info.Key, "It is not named as a pack.");
                continue;
            }
            if (await FindAsync(hash, info.Length, cancellationToken) is { } state)
            {
                known += state == PackState.Live ? 1 : 0;
                continue;
            }
            PackFooter footer;
            try
            {
                footer = await PackReader.ReadFooterAsync(store, info, cancellationToken);
            }
            catch (FaultException fault) when (StoreHealth.IsDamage(fault))
            {
                report(info.Key, fault.Message);
                continue;
            }
            _batch.Add(new StoredPack(hash, footer.Kind, info.Length, footer.Entries.ToArray()));
            _batchRows += footer.Entries.Length;
            Done = Done with { Packs = Done.Packs + 1, Records = Done.Records + footer.Entries.Length };
            if (_batchRows >= RowsPerTransaction)
            {
                await WriteBatchAsync(cancellationToken);
            }
        }
        await WriteBatchAsync(cancellationToken);
        return known;
    }

    private ValueTask<PackState?> FindAsync(Id32 hash, long bytes, CancellationToken cancellationToken) =>
        index.ReadAsync(connection => PackTable.Find(connection, hash) is { } pack && pack.Bytes == bytes ? pack.State : (PackState?)null, cancellationToken);

    private async ValueTask WriteBatchAsync(CancellationToken cancellationToken)
    {
        if (_batch.Count == 0)
        {
            return;
        }
        var now = clock.GetUtcNow().ToUnixTimeMilliseconds();
        await index.WriteAsync(connection => _batch.ForEach(pack => _ = ObjectTable.AddPack(connection, pack, generation, now)), cancellationToken);
        _batch.Clear();
        _batchRows = 0;
        progress?.Report(Done);
    }
}
