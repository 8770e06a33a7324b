using VirtBackup.Core;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Collection;

/// <summary>Lets go of points that were forgotten long enough ago, are not locked, and are not in use.</summary>
internal static class PurgeStage
{
    public static async ValueTask RunAsync(CollectionRun run, CancellationToken cancellationToken)
    {
        var forgotten = await run.Index.ReadAsync(PointTable.ListForgotten, cancellationToken);
        var until = run.Before(run.Options.Safety.ForgottenFor);
        foreach (var (info, forgottenMs) in forgotten)
        {
            if (forgottenMs > until || run.Claims.IsHeld(info.Point))
            {
                run.Report = run.Report with { PointsKept = run.Report.PointsKept + 1 };
                continue;
            }
            if (!run.IsDryRun)
            {
                using var changing = await run.ChangingPoints.CloseAsync(cancellationToken);
                if (run.Claims.IsHeld(info.Point))
                {
                    run.Report = run.Report with { PointsKept = run.Report.PointsKept + 1 };
                    continue;
                }
                try
                {
                    await run.Points.PurgeAsync(info.Point, run.NowMs, cancellationToken);
                }
                catch (FaultException locked) when (locked.Reason == FaultReason.RetentionLocked)
                {
                    run.Report = run.Report with { PointsKept = run.Report.PointsKept + 1 };
                    continue;
                }
            }
            run.Report = run.Report with { PointsPurged = run.Report.PointsPurged + 1, PurgedPoints = [.. run.Report.PurgedPoints, info.Point] };
        }
    }
}
