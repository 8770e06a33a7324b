using System.Diagnostics;
using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Proofs.CollectionScale.Generation;
using VirtBackup.Repository;
using VirtBackup.Repository.Collection;
using VirtBackup.Repository.Index;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CollectionScale.Measuring;

/// <summary>Deletes points of a generated repository, one after the other, and measures what the collector needs for each.</summary>
internal sealed class Measurement(HistoryShape shape, ulong seed, string folder, IReadOnlyList<Freed> freed, string? sabotage)
{
    /// <summary>Releasing and condemning, removing and moving, deleting packs: each a safety time later.</summary>
    private const int RunsPerDeletion = 3;

    private static readonly TimeSpan SafetyTime = TimeSpan.FromHours(25);
    private readonly SetClock _clock = new(Fleet.Today(shape));

    public async Task<SizeFigures> RunAsync(bool audit, CancellationToken cancellationToken)
    {
        var watch = Stopwatch.StartNew();
        using var store = new GeneratedStore(folder, new PackLayout(seed, shape));
        // As the controller opens it.
        await using var index = SqliteDatabase.Open(
            Path.Combine(folder, GeneratedStore.IndexFile), RepositoryIndex.Schema, new SqliteOptions { CacheKibibytes = 4 << 10 });
        await Sabotages.SpoilIndexAsync(sabotage, index, cancellationToken);
        var watched = new WatchedDatabase(index);
        await using var repository = await BackupRepository.OpenAsync(
            store, watched, new RepositoryOptions { PackBytesTarget = PackLayout.PackBytesTarget }, _clock, new ChanceNames(), cancellationToken);
        Require(repository.OpenReport is { Rebuilt: false, PacksAdded: 0, PointsAdded: 0, ProblemCount: 0 }, "the generated index is not that of its store");
        var openingSeconds = watch.Elapsed.TotalSeconds;
        watched.Reset();
        var deletions = new List<DeletionCost>();
        long openingPeak = 0;
        var victims = Victim.Choose(shape);
        for (var i = 0; i < victims.Count; i++)
        {
            if (i == Victim.WarmUps)
            {
                openingPeak = OwnProcess.PeakKiB;
                deletions.Clear();
                OwnProcess.ResetPeak();
            }
            deletions.Add(await DeleteAsync(repository, watched, store, victims[i], freed[i], cancellationToken));
        }
        var peak = OwnProcess.PeakKiB;
        var scans = await watched.FindScansAsync(cancellationToken);
        return new SizeFigures(deletions, peak, openingPeak, openingSeconds, scans, audit ? await AuditAsync(repository, cancellationToken) : null);
    }

    private async Task<DeletionCost> DeleteAsync(
        BackupRepository repository, WatchedDatabase watched, GeneratedStore store, Victim victim, Freed expected, CancellationToken cancellationToken)
    {
        var before = (watched.Rows, store.BytesRead, OwnProcess.FileBytesRead, OwnProcess.ProcessorTime);
        var watch = Stopwatch.StartNew();
        using var hoard = await Sabotages.HoardAsync(sabotage, folder, cancellationToken);
        Sabotages.Hold(sabotage, repository, victim);
        await repository.ForgetAsync(Fleet.Point(victim.Machine, victim.Point), cancellationToken);
        var reports = new List<CollectionReport>();
        for (var run = 0; run < RunsPerDeletion; run++)
        {
            _clock.Pass(SafetyTime);
            reports.Add(await repository.CollectAsync(new CollectionOptions(), cancellationToken));
        }
        var cost = new DeletionCost(
            reports.Sum(static report => report.RowsRead), reports.Sum(static report => report.NodesRead), reports.Sum(static report => report.BytesRead),
            watched.Rows - before.Rows, store.BytesRead - before.BytesRead, OwnProcess.FileBytesRead - before.FileBytesRead, watch.Elapsed.TotalSeconds,
            (OwnProcess.ProcessorTime - before.ProcessorTime).TotalSeconds);
        RequireFreed(reports, expected);
        return cost;
    }

    /// <summary>A collector that frees nothing costs nothing.</summary>
    private static void RequireFreed(List<CollectionReport> reports, Freed expected)
    {
        long Sum(Func<CollectionReport, long> figure) => reports.Sum(figure);
        Require(reports.All(static report => report.Problems.Count == 0), string.Join("; ", reports.SelectMany(static report => report.Problems)));
        Require(reports.All(static report => report.Audit is null), "an audit was due in the middle of the measurement");
        Require(Sum(static report => report.PointsPurged) == 1, "the point was not purged");
        Require(Sum(static report => report.NodesReleased) == expected.Nodes, $"{Sum(static report => report.NodesReleased)} nodes were released instead of {expected.Nodes}");
        Require(
            Sum(static report => report.RecordsRemoved) == expected.Nodes + expected.Chunks,
            $"{Sum(static report => report.RecordsRemoved)} records were removed instead of {expected.Nodes + expected.Chunks}");
        Require(Sum(static report => report.PacksRepacked) > 0 && Sum(static report => report.PacksTrashed) > Sum(static report => report.PacksRepacked), "no pack was written anew or became empty");
        Require(Sum(static report => report.PacksDeleted) == Sum(static report => report.PacksTrashed), "packs were left in the trash");
    }

    private static async Task<AuditFigures> AuditAsync(BackupRepository repository, CancellationToken cancellationToken)
    {
        OwnProcess.ResetPeak();
        var watch = Stopwatch.StartNew();
        var report = await repository.AuditAsync(cancellationToken);
        Require(report.IsSound, report.Problem ?? "");
        Require(report.CountedTooOften == 0, $"{report.CountedTooOften} objects are counted too often");
        return new AuditFigures(report.References, report.Rows, watch.Elapsed.TotalSeconds, OwnProcess.PeakKiB);
    }

    private static void Require(bool condition, string problem)
    {
        if (!condition) throw new RefutedException(problem);
    }

    private sealed class ChanceNames : IEntropy
    {
        public void Fill(Span<byte> destination) => RandomNumberGenerator.Fill(destination);
    }
}
