using VirtBackup.Proofs.CollectionScale.Generation;
using VirtBackup.Proofs.Rebuild.Measuring;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Rebuild;

/// <summary>What the processes of one repository are told.</summary>
internal sealed record RebuildJob(HistoryShape Shape, ulong Seed, int Rounds, string? Sabotage);

/// <summary>
/// One repository of index scale. A process generates it and ends, so that its memory is not the rebuild's; another one
/// rebuilds. They speak through files of the folder, which goes with this.
/// </summary>
internal sealed class RebuildRun(RebuildJob job, string folder) : IDisposable
{
    private const string GenerateVerb = "generate";
    private const string RebuildVerb = "rebuild";

    // Tables of contents, leaves, three indexes and what a rebuild spools; in bytes, generous.
    private const long BytesPerChunk = 900;
    private const long BytesPerPoint = 1 << 20;

    private readonly ProofWorkers _workers = new(folder);

    public static IReadOnlyList<string> Verbs { get; } = [GenerateVerb, RebuildVerb];

    public static long NeededBytes(HistoryShape shape) => (shape.Chunks * BytesPerChunk) + (shape.Points * BytesPerPoint);

    public async Task<GenerationReport> GenerateAsync(CancellationToken cancellationToken)
    {
        await _workers.PrepareAsync(job, cancellationToken);
        return await _workers.RunAsync<GenerationReport>(GenerateVerb, cancellationToken);
    }

    public Task<List<RoundFigures>> RebuildAsync(CancellationToken cancellationToken) => _workers.RunAsync<List<RoundFigures>>(RebuildVerb, cancellationToken);

    public void Dispose() => _workers.Dispose();

    /// <summary>Does the work of one of the processes.</summary>
    /// <returns>Its exit code.</returns>
    public static Task<int> ServeAsync(string verb, string folder) => ProofWorkers.ServeAsync(async () =>
    {
        // Not disposed of: the folder is the starter's.
        var worker = new ProofWorkers(folder);
        var job = await worker.ReadJobAsync<RebuildJob>();
        if (verb == GenerateVerb)
        {
            var report = RepositoryGenerator.Run(job.Shape, job.Seed, folder);
            SparsePacks.Write(new PackLayout(job.Seed, job.Shape), Path.Combine(folder, RepositoryGenerator.ObjectsFolder));
            await worker.LeaveAsync(verb, report);
            return;
        }
        await worker.LeaveAsync(verb, await new RebuildMeasurement(job, folder).RunAsync());
    });
}
