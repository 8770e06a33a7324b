using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.ObjectStores;
using VirtBackup.Proofs.CollectionScale.Generation;
using VirtBackup.Proofs.CollectionScale.Measuring;
using VirtBackup.Repository;
using VirtBackup.Repository.Index;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Rebuild.Measuring;

/// <summary>Rebuilds the index of a generated repository as a controller does that finds none, and inserts the same rows plainly.</summary>
internal sealed class RebuildMeasurement(RebuildJob job, string folder)
{
    private static readonly SqliteOptions AsTheController = new() { CacheKibibytes = 4 << 10 };

    private readonly SetClock _clock = new(Fleet.Today(job.Shape));

    public async Task<List<RoundFigures>> RunAsync()
    {
        using var store = LocalFolderStore.Open(Path.Combine(folder, RepositoryGenerator.ObjectsFolder));
        var grown = await DumpGrownAsync(store);
        var rounds = new List<RoundFigures>();
        for (var round = 0; round < job.Rounds; round++)
        {
            rounds.Add(await MeasureAsync(store, grown, round));
        }
        return rounds;
    }

    /// <summary>The dump of the index that knows the repository from its first commit on.</summary>
    private async Task<List<string>> DumpGrownAsync(LocalFolderStore store)
    {
        await using var index = SqliteDatabase.Open(Path.Combine(folder, RepositoryGenerator.IndexFile), RepositoryIndex.Schema);
        await using var repository = await OpenAsync(store, index, progress: null);
        return repository.OpenReport is { Rebuilt: false, PacksAdded: 0, PointsAdded: 0, PointsRemoved: 0, ProblemCount: 0 }
            ? await DumpDigest.TakeAsync(index)
            : throw new RefutedException($"the index is not that of its store: {repository.OpenReport}");
    }

    private async Task<RoundFigures> MeasureAsync(LocalFolderStore store, List<string> grown, int round)
    {
        var (rebuiltPath, plainPath) = (Path.Combine(folder, $"rebuilt-{round}.db"), Path.Combine(folder, $"plain-{round}.db"));
        OwnProcess.ResetPeak();
        await using var index = SqliteDatabase.Open(rebuiltPath, RepositoryIndex.Schema, AsTheController);
        var phases = new PhaseClock();
        await using var repository = await OpenAsync(Sabotages.Spoil(job.Sabotage, store), Sabotages.Spoil(job.Sabotage, index), phases);
        phases.Stop();
        var peak = OwnProcess.PeakKiB;
        if (repository.OpenReport is not { Rebuilt: true, ProblemCount: 0 } report || report.PointsAdded != job.Shape.Points)
        {
            throw new RefutedException($"the index was not rebuilt whole: {repository.OpenReport}");
        }
        await using var plain = SqliteDatabase.Open(plainPath, RepositoryIndex.Schema, AsTheController);
        var insert = new PlainInsert(index, plain);
        var rows = await insert.RunAsync();
        if (rows != phases.Done.Rows)
        {
            throw new RefutedException($"{phases.Done.Rows} rows were told and {rows} are there");
        }
        var differences = (await DumpDigest.TakeAsync(index)).Except(grown).Select(line => $"rebuilt {line}, grown {string.Join(" | ", grown)}").ToList();
        return new RoundFigures(
            rows, phases.RowSeconds, phases.Done.ReferencesChecked, phases.ReferenceSeconds, insert.Seconds, peak, differences.FirstOrDefault(), phases.ToString(),
            insert.ProcessorSeconds / phases.RowProcessorSeconds, phases.Done.ReferencesChecked / phases.ReferenceProcessorSeconds);
    }

    private ValueTask<BackupRepository> OpenAsync(IObjectStore store, IDatabase index, IProgress<RebuildProgress>? progress) =>
        BackupRepository.OpenAsync(store, index, new RepositoryOptions { RebuildProgress = progress }, _clock, new ChanceNames(), CancellationToken.None);

    private sealed class ChanceNames : IEntropy
    {
        public void Fill(Span<byte> destination) => RandomNumberGenerator.Fill(destination);
    }
}
