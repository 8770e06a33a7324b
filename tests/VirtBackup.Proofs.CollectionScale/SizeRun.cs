using System.Diagnostics;
using System.Text.Json;
using VirtBackup.Proofs.CollectionScale.Generation;
using VirtBackup.Proofs.CollectionScale.Measuring;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CollectionScale;

/// <summary>What a process of this program is told to generate and measure.</summary>
internal sealed record SizeJob(HistoryShape Shape, ulong Seed, string? Sabotage, bool Audit);

/// <summary>
/// One size: a process generates the repository and ends, so that its memory is not the collector's; another one measures.
/// They speak through files of the folder.
/// </summary>
internal static class SizeRun
{
    public const string GenerateVerb = "generate";
    public const string MeasureVerb = "measure";
    private const string JobFile = "job.json";

    // Rows of the index, leaves, and one history's changes; in bytes, generous.
    private const long BytesPerChunk = 220;
    private const long BytesPerPoint = 1 << 20;

    public static long NeededBytes(HistoryShape shape) => (shape.Chunks * BytesPerChunk) + (shape.Points * BytesPerPoint);

    public static async Task<(GenerationReport Generation, SizeFigures Figures)> RunAsync(SizeJob job, string folder, CancellationToken cancellationToken)
    {
        Directory.CreateDirectory(folder);
        try
        {
            await WriteAsync(folder, JobFile, job, cancellationToken);
            await StartAsync(GenerateVerb, folder, cancellationToken);
            var generation = await ReadAsync<GenerationReport>(folder, GenerateVerb + ".json", cancellationToken);
            await StartAsync(MeasureVerb, folder, cancellationToken);
            return (generation, await ReadAsync<SizeFigures>(folder, MeasureVerb + ".json", cancellationToken));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>Does the work of one of the two processes.</summary>
    /// <returns>Its exit code.</returns>
    public static async Task<int> ServeAsync(string verb, string folder)
    {
        try
        {
            var job = await ReadAsync<SizeJob>(folder, JobFile, CancellationToken.None);
            if (verb == GenerateVerb)
            {
                await WriteAsync(folder, GenerateVerb + ".json", RepositoryGenerator.Run(job.Shape, job.Seed, folder), CancellationToken.None);
                return 0;
            }
            var freed = (await ReadAsync<GenerationReport>(folder, GenerateVerb + ".json", CancellationToken.None)).Freed;
            var figures = await new Measurement(job.Shape, job.Seed, folder, freed, job.Sabotage).RunAsync(job.Audit, CancellationToken.None);
            await WriteAsync(folder, MeasureVerb + ".json", figures, CancellationToken.None);
            return 0;
        }
        catch (RefutedException refuted)
        {
            await Console.Error.WriteLineAsync(refuted.Message);
            return 1;
        }
    }

    private static async Task StartAsync(string verb, string folder, CancellationToken cancellationToken)
    {
        using var process = Process.Start(new ProcessStartInfo(Environment.ProcessPath!, [verb, folder]) { RedirectStandardError = true })!;
        try
        {
            var problem = await process.StandardError.ReadToEndAsync(cancellationToken);
            await process.WaitForExitAsync(cancellationToken);
            if (process.ExitCode != 0) throw new RefutedException(problem.Trim());
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

    private static async Task<T> ReadAsync<T>(string folder, string name, CancellationToken cancellationToken) =>
        JsonSerializer.Deserialize<T>(await File.ReadAllBytesAsync(Path.Combine(folder, name), cancellationToken))!;
}
