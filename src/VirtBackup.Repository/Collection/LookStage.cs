using VirtBackup.Database;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Collection;

/// <summary>
/// The two looks. The first condemns what nothing refers to, no session claims and is old enough; the second, a safety time
/// later, tests all of that again and takes it out of the index. Between the two a reference, a probe's pin or a new upload
/// saves it. Packs whose records are all too young cost one row.
/// </summary>
internal static class LookStage
{
    private const int PacksPerPage = 64;

    public static async ValueTask CondemnAsync(CollectionRun run, CancellationToken cancellationToken)
    {
        var now = run.NowMs;
        await ForEachAsync(
            run,
            (connection, candidate) =>
            {
                if (candidate.CondemnedMs == 0 && (run.IsDryRun || CandidateTable.TryCondemn(connection, candidate, now)))
                {
                    run.Report = run.Report with { RecordsCondemned = run.Report.RecordsCondemned + 1 };
                }
            },
            cancellationToken);
    }

    public static async ValueTask RemoveAsync(CollectionRun run, CancellationToken cancellationToken)
    {
        var until = run.Before(run.Options.Safety.CondemnedFor);
        if (!run.IsDryRun)
        {
            await run.ChangeAsync(UnlocatedTable.RemoveUnneeded, cancellationToken);
        }
        await ForEachAsync(
            run,
            (connection, candidate) =>
            {
                if (candidate.CondemnedMs == 0 || candidate.CondemnedMs > until)
                {
                    return;
                }
                var (records, bytes) = run.IsDryRun ? (1, 0) : CandidateTable.Remove(connection, candidate, until);
                run.Report = run.Report with { RecordsRemoved = run.Report.RecordsRemoved + records, BytesRemoved = run.Report.BytesRemoved + bytes };
            },
            cancellationToken);
    }

    private static async ValueTask ForEachAsync(CollectionRun run, Action<ISqlConnection, Candidate> look, CancellationToken cancellationToken)
    {
        var storedUntil = run.Before(run.Options.Safety.UploadedFor);
        long after = 0;
        while (true)
        {
            var page = await run.Index.ReadAsync(connection => CandidateTable.ListPacks(connection, after, PacksPerPage), cancellationToken);
            if (page.Count == 0)
            {
                return;
            }
            after = page[^1].Number;
            run.Report = run.Report with { RowsRead = run.Report.RowsRead + page.Count };
            var batch = new List<long>();
            long rows = 0;
            foreach (var pack in page.Where(pack => pack.CreatedMs <= storedUntil))
            {
                batch.Add(pack.Number);
                rows += pack.Records;
                if (rows >= CollectionRun.RowsPerTransaction)
                {
                    await LookAsync(run, batch, storedUntil, look, cancellationToken);
                    (batch, rows) = ([], 0);
                }
            }
            if (batch.Count > 0)
            {
                await LookAsync(run, batch, storedUntil, look, cancellationToken);
            }
        }
    }

    private static async ValueTask LookAsync(
        CollectionRun run, List<long> packs, long storedUntil, Action<ISqlConnection, Candidate> look, CancellationToken cancellationToken)
    {
        var before = run.Report;
        try
        {
            await run.ChangeAsync(
                connection =>
                {
                    foreach (var pack in packs)
                    {
                        var candidates = CandidateTable.List(connection, pack);
                        run.Report = run.Report with { RowsRead = run.Report.RowsRead + candidates.Count };
                        foreach (var candidate in candidates)
                        {
                            // A node that still holds its children was claimed when it was its turn.
                            if (candidate.Holds)
                            {
                                continue;
                            }
                            var youngest = CandidateTable.YoungestMs(connection, candidate);
                            if (youngest <= storedUntil && run.IsUnclaimed(candidate.Number, youngest))
                            {
                                look(connection, candidate);
                            }
                        }
                    }
                    return true;
                },
                cancellationToken);
        }
        catch
        {
            // The transaction did not happen.
            run.Report = before;
            throw;
        }
    }
}
