using VirtBackup.Core;
using VirtBackup.Repository.Auditing;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Collection;

/// <summary>
/// Frees what no recovery point needs, while backups, restores and verifications go on. Every stage finds its work in the
/// index, in small transactions, so a run can be stopped or killed anywhere and the next one goes on. Two runs at least a
/// safety time apart are needed before anything leaves the index, and a third before bytes leave the store.
/// </summary>
internal static class Collector
{
    public static async ValueTask<CollectionReport> RunAsync(CollectionRun run, CancellationToken cancellationToken)
    {
        run.Options.Safety.Validate();
        if (run.Options.RepackDeadPercent is < 1 or > 100 || run.Options.BytesPerSecond is <= 0)
        {
            throw new FaultException(FaultReason.InvalidArgument, "The share of dead bytes is 1 to 100 percent, and a rate is at least 1 byte per second.");
        }
        await run.ReadTimeAsync(cancellationToken);
        var before = await run.Index.ReadAsync(CollectionRow.Read, cancellationToken);
        var row = new CollectionRow(before.Stage == CollectionStage.None ? before.Cycle + 1 : before.Cycle, CollectionStage.Plan, run.NowMs, before.FinishedMs);
        run.Report = run.Report with { Cycle = row.Cycle, IsDryRun = run.IsDryRun };
        await EnterAsync(run, row, cancellationToken);
        await run.Owner.RequireAsync(cancellationToken);
        await SettleAsync(run, cancellationToken);
        await ManifestCheck.RequireEqualAsync(run, cancellationToken);
        await EnterAsync(run, row with { Stage = CollectionStage.Purge }, cancellationToken);
        await PurgeStage.RunAsync(run, cancellationToken);
        await RequireWholeAsync(run, cancellationToken);
        await EnterAsync(run, row with { Stage = CollectionStage.Audit }, cancellationToken);
        await AuditAsync(run, cancellationToken);
        await EnterAsync(run, row with { Stage = CollectionStage.Release }, cancellationToken);
        await ReleaseStage.RunAsync(run, cancellationToken);
        await EnterAsync(run, row with { Stage = CollectionStage.Condemn }, cancellationToken);
        await LookStage.CondemnAsync(run, cancellationToken);
        await EnterAsync(run, row with { Stage = CollectionStage.Remove }, cancellationToken);
        await LookStage.RemoveAsync(run, cancellationToken);
        await EnterAsync(run, row with { Stage = CollectionStage.Trash }, cancellationToken);
        await TrashStage.TrashAsync(run, cancellationToken);
        // Before anything is written: the device may be full.
        await EnterAsync(run, row with { Stage = CollectionStage.Empty }, cancellationToken);
        await TrashStage.EmptyAsync(run, cancellationToken);
        await EnterAsync(run, row with { Stage = CollectionStage.Repack }, cancellationToken);
        await new RepackStage(run).RunAsync(cancellationToken);
        await TrashStage.TrashAsync(run, cancellationToken);
        await EnterAsync(run, row with { Stage = CollectionStage.None, FinishedMs = run.NowMs }, cancellationToken);
        return run.Report;
    }

    private static async ValueTask EnterAsync(CollectionRun run, CollectionRow row, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        await run.ReadTimeAsync(cancellationToken);
        if (!run.IsDryRun)
        {
            await run.Index.WriteAsync(
                connection =>
                {
                    row.Write(connection);
                    return true;
                },
                cancellationToken);
        }
        run.Options.Progress?.Report(new CollectionProgress(row.Stage, run.Report));
    }

    private static async ValueTask SettleAsync(CollectionRun run, CancellationToken cancellationToken)
    {
        if (!run.IsDryRun)
        {
            using var changing = await run.ChangingPoints.CloseAsync(cancellationToken);
            await run.Committer.SettlePendingAsync(run.Before(run.Options.Safety.UploadedFor), cancellationToken);
            _ = await run.Points.RecheckAsync(cancellationToken);
        }
    }

    /// <summary>Nothing is deleted by counts that were never proven since the index was made, or were found wrong.</summary>
    private static async ValueTask AuditAsync(CollectionRun run, CancellationToken cancellationToken)
    {
        var last = await run.Index.ReadAsync(AuditRow.Read, cancellationToken);
        if (last is not { Problem: null } || last.FinishedMs < run.Before(run.Options.AuditEvery))
        {
            if (run.IsDryRun)
            {
                return;
            }
            var audit = await new ReferenceAudit(run.Store, run.Index, run.ChangingPoints, run.Clock).RunAsync(cancellationToken);
            run.Report = run.Report with { Audit = audit };
            if (!audit.IsSound)
            {
                throw new FaultException(
                    FaultReason.FailedPrecondition, $"{audit.Problem} Nothing is deleted by counts that are wrong: run 'virtbackup repository verify', then 'virtbackup repository rebuild-index'.");
            }
        }
    }

    /// <summary>
    /// What is left of a point that lacked something when the index was made is not counted, so nothing may be deleted beside
    /// one. What was damaged since then is in quarantine, and counted.
    /// </summary>
    private static async ValueTask RequireWholeAsync(CollectionRun run, CancellationToken cancellationToken)
    {
        if (await run.Index.ReadAsync(PointTable.CountUncounted, cancellationToken) is > 0 and var count)
        {
            throw new FaultException(
                FaultReason.FailedPrecondition,
                $"{count} recovery points lack something, and what is left of them is not counted: nothing is deleted until what they lack is back, or they are forgotten and purged. 'virtbackup repository verify' names them.");
        }
    }
}
