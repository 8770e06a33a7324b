using VirtBackup.Proofs.CollectionScale.Generation;
using VirtBackup.Proofs.CollectionScale.Measuring;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CollectionScale;

/// <summary>What the processes of one size are told.</summary>
internal sealed record SizeJob(HistoryShape Shape, ulong Seed, string? Sabotage);

/// <summary>
/// One size. A process generates the repository and ends, so that its memory is not the collector's; another one measures,
/// a third one recounts. They speak through files of the folder, which goes with this.
/// </summary>
internal sealed class SizeRun(SizeJob job, string folder) : IDisposable
{
    private const string GenerateVerb = "generate";
    private const string MeasureVerb = "measure";
    private const string AuditVerb = "audit";

    // Rows of the index, leaves, and one history's changes; in bytes, generous.
    private const long BytesPerChunk = 220;
    private const long BytesPerPoint = 1 << 20;

    private readonly ProofWorkers _workers = new(folder);

    public static IReadOnlyList<string> Verbs { get; } = [GenerateVerb, MeasureVerb, AuditVerb];

    public static long NeededBytes(HistoryShape shape) => (shape.Chunks * BytesPerChunk) + (shape.Points * BytesPerPoint);

    public async Task<GenerationReport> GenerateAsync(CancellationToken cancellationToken)
    {
        await _workers.PrepareAsync(job, cancellationToken);
        return await _workers.RunAsync<GenerationReport>(GenerateVerb, cancellationToken);
    }

    public Task<SizeFigures> MeasureAsync(CancellationToken cancellationToken) => _workers.RunAsync<SizeFigures>(MeasureVerb, cancellationToken);

    public Task<AuditFigures> AuditAsync(CancellationToken cancellationToken) => _workers.RunAsync<AuditFigures>(AuditVerb, cancellationToken);

    public void Dispose() => _workers.Dispose();

    /// <summary>Does the work of one of the processes.</summary>
    /// <returns>Its exit code.</returns>
    public static Task<int> ServeAsync(string verb, string folder) => ProofWorkers.ServeAsync(async () =>
    {
        // Not disposed of: the folder is the starter's.
        var worker = new ProofWorkers(folder);
        var job = await worker.ReadJobAsync<SizeJob>();
        if (verb == GenerateVerb)
        {
            await worker.LeaveAsync(verb, RepositoryGenerator.Run(job.Shape, job.Seed, folder));
            return;
        }
        await using var opened = await OpenedRepository.OpenAsync(job, folder);
        if (verb == AuditVerb)
        {
            await worker.LeaveAsync(verb, await opened.AuditAsync());
            return;
        }
        var freed = (await worker.ReadResultAsync<GenerationReport>(GenerateVerb)).Freed;
        await worker.LeaveAsync(verb, await new Measurement(opened, job, folder, freed).RunAsync());
    });
}
