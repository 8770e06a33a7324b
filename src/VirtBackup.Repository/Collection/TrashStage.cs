using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Packs;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Points;

namespace VirtBackup.Repository.Collection;

/// <summary>
/// The end of a pack in two steps. Trash: no row names a record of it; it is noted in the index and stays in the store.
/// Empty: after the safety time the object is deleted, once its own table of contents has shown again that no row names
/// a record of it. An index that was made anew knows of no trash: there all packs live.
/// </summary>
internal static class TrashStage
{
    private const int PacksPerPage = 256;

    public static async ValueTask TrashAsync(CollectionRun run, CancellationToken cancellationToken)
    {
        await ManifestCheck.RequireEqualAsync(run, cancellationToken);
        await run.Owner.RequireAsync(cancellationToken);
        var now = run.NowMs;
        long after = 0;
        while (true)
        {
            var dead = await run.Index.ReadAsync(connection => PackTable.ListDead(connection, after, PacksPerPage), cancellationToken);
            if (dead.Count == 0)
            {
                return;
            }
            after = dead[^1].Number;
            var trashed = await run.ChangeAsync(connection => dead.FindAll(pack => run.IsDryRun || PackTable.TryTrash(connection, pack.Number, now)), cancellationToken);
            run.Report = run.Report with
            {
                PacksTrashed = run.Report.PacksTrashed + trashed.Count, BytesTrashed = run.Report.BytesTrashed + trashed.Sum(static pack => pack.Bytes),
                RowsRead = run.Report.RowsRead + dead.Count,
            };
        }
    }

    public static async ValueTask EmptyAsync(CollectionRun run, CancellationToken cancellationToken)
    {
        await ManifestCheck.RequireEqualAsync(run, cancellationToken);
        var until = run.Before(run.Options.Safety.TrashedFor);
        long after = 0;
        while (true)
        {
            var page = await run.Index.ReadAsync(connection => PackTable.ListTrash(connection, after, PacksPerPage), cancellationToken);
            if (page.Count == 0)
            {
                return;
            }
            after = page[^1].Number;
            await run.Owner.RequireAsync(cancellationToken);
            foreach (var pack in page.Where(pack => pack.StateMs <= until))
            {
                if (await TryDeleteAsync(run, pack, cancellationToken))
                {
                    run.Report = run.Report with { PacksDeleted = run.Report.PacksDeleted + 1, BytesFreed = run.Report.BytesFreed + pack.Bytes };
                }
            }
            run.Report = run.Report with { RowsRead = run.Report.RowsRead + page.Count };
        }
    }

    private static async ValueTask<bool> TryDeleteAsync(CollectionRun run, PackRow pack, CancellationToken cancellationToken)
    {
        var key = ObjectKeys.Pack(pack.Hash);
        // Trash that the provider retains goes later.
        if (await PointRetention.IsRetainedAsync(run.Store, run.Index, key, run.NowMs, cancellationToken))
        {
            return false;
        }
        var entries = Array.Empty<PackEntry>();
        var isNeeded = false;
        if (await run.Store.FindAsync(key, cancellationToken) is { } info)
        {
            try
            {
                entries = (await PackReader.ReadFooterAsync(run.Store, info, cancellationToken)).Entries.ToArray();
            }
            catch (FaultException fault) when (fault.Reason is FaultReason.Malformed or FaultReason.Corrupt or FaultReason.Unsupported || StoreHealth.IsUnreadable(fault))
            {
                await run.Store.RequireReadableAsync(cancellationToken);
                // It cannot tell what lay in it: every row is asked, while others go on. No row comes to name a pack in the trash.
                isNeeded = (await run.Index.ReadAsync(connection => PackRecords.Scan(connection, pack.Number), cancellationToken)).Count > 0;
            }
        }
        if (run.IsDryRun)
        {
            return true;
        }
        // Nobody may find the pack in the store and rely on it while it goes.
        using var deleting = await run.Deleting.CloseAsync(cancellationToken);
        var isUnused = await run.Index.ReadAsync(
            connection =>
            {
                if (PackTable.Find(connection, pack.Number) is not { State: PackState.Trash })
                {
                    return false;
                }
                if (isNeeded)
                {
                    throw FaultException.Corrupt($"The pack {key} is in the trash, but the index needs records of it. Nothing is deleted: rebuild the index.");
                }
                foreach (var entry in entries)
                {
                    if (CandidateTable.HasRow(connection, entry.Header, pack.Number))
                    {
                        throw FaultException.Corrupt($"The pack {key} is in the trash, but the index needs its record {entry.Header.Id}. Nothing is deleted: rebuild the index.");
                    }
                }
                return true;
            },
            cancellationToken);
        if (!isUnused)
        {
            return false;
        }
        // Whoever has taken the repository over meanwhile may rely on the pack.
        await run.Owner.RequireAsync(cancellationToken);
        try
        {
            await run.Store.DeleteAsync(key, cancellationToken);
        }
        catch (FaultException held) when (held.Reason == FaultReason.RetentionLocked)
        {
            return false;
        }
        await run.Index.WriteAsync(
            connection =>
            {
                PackTable.Remove(connection, pack.Number);
                RetentionTable.Remove(connection, key);
                return true;
            },
            CancellationToken.None);
        return true;
    }
}
