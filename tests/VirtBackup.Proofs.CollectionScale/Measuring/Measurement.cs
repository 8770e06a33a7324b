using System.Diagnostics;
using VirtBackup.Proofs.CollectionScale.Generation;
using VirtBackup.Repository.Collection;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CollectionScale.Measuring;

/// <summary>Deletes points of a generated repository, one after the other, and measures what the collector needs for each.</summary>
internal sealed class Measurement(OpenedRepository opened, SizeJob job, string folder, IReadOnlyList<Freed> freed)
{
    /// <summary>Releasing and condemning, removing and moving, deleting packs: each a safety time later.</summary>
    private const int RunsPerDeletion = 3;

    private static readonly TimeSpan SafetyTime = TimeSpan.FromHours(25);

    public async Task<SizeFigures> RunAsync()
    {
        opened.Watched.Reset();
        var deletions = new List<DeletionCost>();
        long openingPeak = 0;
        var victims = Victim.Choose(job.Shape);
        for (var i = 0; i < victims.Count; i++)
        {
            if (i == Victim.WarmUps)
            {
                openingPeak = OwnProcess.PeakKiB;
                deletions.Clear();
                OwnProcess.ResetPeak();
            }
            deletions.Add(await DeleteAsync(victims[i], freed[i]));
        }
        return new SizeFigures(deletions, OwnProcess.PeakKiB, openingPeak, opened.OpeningSeconds, await opened.Watched.FindScansAsync());
    }

    private async Task<DeletionCost> DeleteAsync(Victim victim, Freed expected)
    {
        var before = (opened.Watched.Rows, opened.Store.BytesRead, OwnProcess.FileBytesRead, OwnProcess.ProcessorTime);
        var watch = Stopwatch.StartNew();
        using var hoard = await Sabotages.HoardAsync(job.Sabotage, folder);
        Sabotages.Hold(job.Sabotage, opened.Repository, victim);
        await opened.Repository.ForgetAsync(Fleet.Point(victim.Machine, victim.Point), CancellationToken.None);
        var reports = new List<CollectionReport>();
        for (var run = 0; run < RunsPerDeletion; run++)
        {
            opened.Clock.Pass(SafetyTime);
            reports.Add(await opened.Repository.CollectAsync(new CollectionOptions(), CancellationToken.None));
        }
        var cost = new DeletionCost(
            reports.Sum(static report => report.RowsRead), reports.Sum(static report => report.NodesRead), reports.Sum(static report => report.BytesRead),
            opened.Watched.Rows - before.Rows, opened.Store.BytesRead - before.BytesRead, OwnProcess.FileBytesRead - before.FileBytesRead,
            watch.Elapsed.TotalSeconds, (OwnProcess.ProcessorTime - before.ProcessorTime).TotalSeconds);
        RequireFreed(reports, expected);
        return cost;
    }

    /// <summary>A collector that frees nothing costs nothing.</summary>
    private static void RequireFreed(List<CollectionReport> reports, Freed expected)
    {
        long Sum(Func<CollectionReport, long> figure) => reports.Sum(figure);
        var (released, removed) = (Sum(static report => report.NodesReleased), Sum(static report => report.RecordsRemoved));
        var (repacked, trashed) = (Sum(static report => report.PacksRepacked), Sum(static report => report.PacksTrashed));
        Require(reports.All(static report => report.Problems.Count == 0), string.Join("; ", reports.SelectMany(static report => report.Problems)));
        Require(reports.All(static report => report.Audit is null), "an audit was due in the middle of the measurement");
        Require(Sum(static report => report.PointsPurged) == 1, "the point was not purged");
        Require(released == expected.Nodes, $"{released} nodes were released instead of {expected.Nodes}");
        Require(removed == expected.Nodes + expected.Chunks, $"{removed} records were removed instead of {expected.Nodes + expected.Chunks}");
        Require(repacked > 0 && trashed > repacked, $"{repacked} packs were written anew and {trashed} trashed, though some are empty and some nearly");
        Require(Sum(static report => report.PacksDeleted) == trashed, "packs were left in the trash");
    }

    private static void Require(bool condition, string problem)
    {
        if (!condition) throw new RefutedException(problem);
    }
}
