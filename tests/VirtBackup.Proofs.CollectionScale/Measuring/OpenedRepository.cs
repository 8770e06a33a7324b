using System.Diagnostics;
using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Proofs.CollectionScale.Generation;
using VirtBackup.Repository;
using VirtBackup.Repository.Index;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CollectionScale.Measuring;

/// <summary>A generated repository, opened as the controller opens one.</summary>
internal sealed class OpenedRepository : IAsyncDisposable
{
    private readonly SqliteDatabase _index;

    private OpenedRepository(GeneratedStore store, SqliteDatabase index, WatchedDatabase watched, SetClock clock, BackupRepository repository, double seconds)
    {
        (Store, _index, Watched, Clock, Repository, OpeningSeconds) = (store, index, watched, clock, repository, seconds);
    }

    public GeneratedStore Store { get; }

    public WatchedDatabase Watched { get; }

    public SetClock Clock { get; }

    public BackupRepository Repository { get; }

    public double OpeningSeconds { get; }

    /// <exception cref="RefutedException">The index is not that of the store.</exception>
    public static async Task<OpenedRepository> OpenAsync(SizeJob job, string folder)
    {
        var watch = Stopwatch.StartNew();
        var store = new GeneratedStore(folder, new PackLayout(job.Seed, job.Shape));
        var index = SqliteDatabase.Open(
            Path.Combine(folder, RepositoryGenerator.IndexFile), RepositoryIndex.Schema, new SqliteOptions { CacheKibibytes = 4 << 10 });
        await Sabotages.SpoilIndexAsync(job.Sabotage, index);
        var watched = new WatchedDatabase(index);
        var clock = new SetClock(Fleet.Today(job.Shape));
        var repository = await BackupRepository.OpenAsync(
            store, watched, new RepositoryOptions { PackBytesTarget = PackLayout.PackBytesTarget }, clock, new ChanceNames(), CancellationToken.None);
        return repository.OpenReport is { Rebuilt: false, PacksAdded: 0, PointsAdded: 0, PointsRemoved: 0, ProblemCount: 0 }
            ? new OpenedRepository(store, index, watched, clock, repository, watch.Elapsed.TotalSeconds)
            : throw new RefutedException($"the index is not that of its store: {repository.OpenReport}");
    }

    /// <exception cref="RefutedException">The counts are wrong.</exception>
    public async Task<AuditFigures> AuditAsync()
    {
        OwnProcess.ResetPeak();
        var watch = Stopwatch.StartNew();
        var report = await Repository.AuditAsync(CancellationToken.None);
        return report is { IsSound: true, CountedTooOften: 0 }
            ? new AuditFigures(report.References, report.Rows, watch.Elapsed.TotalSeconds, OwnProcess.PeakKiB)
            : throw new RefutedException(report.Problem ?? $"{report.CountedTooOften} objects are counted too often");
    }

    public async ValueTask DisposeAsync()
    {
        await Repository.DisposeAsync();
        await _index.DisposeAsync();
        Store.Dispose();
    }

    private sealed class ChanceNames : IEntropy
    {
        public void Fill(Span<byte> destination) => RandomNumberGenerator.Fill(destination);
    }
}
