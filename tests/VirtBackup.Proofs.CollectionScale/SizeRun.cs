using System.Diagnostics;
using System.Text.Json;
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
    private const string JobFile = "job.json";

    // Rows of the index, leaves, and one history's changes; in bytes, generous.
    private const long BytesPerChunk = 220;
    private const long BytesPerPoint = 1 << 20;

    public static IReadOnlyList<string> Verbs { get; } = [GenerateVerb, MeasureVerb, AuditVerb];

    public static long NeededBytes(HistoryShape shape) => (shape.Chunks * BytesPerChunk) + (shape.Points * BytesPerPoint);

    public async Task<GenerationReport> GenerateAsync(CancellationToken cancellationToken)
    {
        Directory.CreateDirectory(folder);
        await WriteAsync(folder, JobFile, job, cancellationToken);
        return await StartAsync<GenerationReport>(GenerateVerb, cancellationToken);
    }

    public Task<SizeFigures> MeasureAsync(CancellationToken cancellationToken) => StartAsync<SizeFigures>(MeasureVerb, cancellationToken);

    public Task<AuditFigures> AuditAsync(CancellationToken cancellationToken) => StartAsync<AuditFigures>(AuditVerb, cancellationToken);

    public void Dispose()
    {
        if (Directory.Exists(folder))
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>Does the work of one of the processes.</summary>
    /// <returns>Its exit code.</returns>
    public static async Task<int> ServeAsync(string verb, string folder)
    {
        try
        {
            var job = await ReadAsync<SizeJob>(folder, JobFile);
            if (verb == GenerateVerb)
            {
                await WriteAsync(folder, ResultOf(verb), RepositoryGenerator.Run(job.Shape, job.Seed, folder), CancellationToken.None);
                return 0;
            }
            await using var opened = await OpenedRepository.OpenAsync(job, folder);
            if (verb == AuditVerb)
            {
                await WriteAsync(folder, ResultOf(verb), await opened.AuditAsync(), CancellationToken.None);
                return 0;
            }
            var freed = (await ReadAsync<GenerationReport>(folder, ResultOf(GenerateVerb))).Freed;
            await WriteAsync(folder, ResultOf(verb), await new Measurement(opened, job, folder, freed).RunAsync(), CancellationToken.None);
            return 0;
        }
        catch (RefutedException refuted)
        {
            await Console.Error.WriteLineAsync(refuted.Message);
            return 1;
        }
    }

    private static string ResultOf(string verb) => verb + ".json";

    private async Task<T> StartAsync<T>(string verb, CancellationToken cancellationToken)
    {
        using var process = Process.Start(new ProcessStartInfo(Environment.ProcessPath!, [verb, folder]) { RedirectStandardError = true })!;
        try
        {
            var problem = await process.StandardError.ReadToEndAsync(cancellationToken);
            await process.WaitForExitAsync(cancellationToken);
            return process.ExitCode == 0 ? await ReadAsync<T>(folder, ResultOf(verb)) : throw new RefutedException(problem.Trim());
        }
        finally
        {
            if (!process.HasExited)
            {
                process.Kill();
                await process.WaitForExitAsync(CancellationToken.None);
            }
        }
    }

    private static async Task WriteAsync<T>(string folder, string name, T value, CancellationToken cancellationToken) =>
        await File.WriteAllBytesAsync(Path.Combine(folder, name), JsonSerializer.SerializeToUtf8Bytes(value), cancellationToken);

    private static async Task<T> ReadAsync<T>(string folder, string name) =>
        JsonSerializer.Deserialize<T>(await File.ReadAllBytesAsync(Path.Combine(folder, name)))!;
}
