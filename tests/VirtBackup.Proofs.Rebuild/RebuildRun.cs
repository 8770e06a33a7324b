using System.Diagnostics;
using System.Text.Json;
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
    private const string JobFile = "job.json";

    // Tables of contents, leaves, three indexes and what a rebuild spools; in bytes, generous.
    private const long BytesPerChunk = 900;
    private const long BytesPerPoint = 1 << 20;

    public static IReadOnlyList<string> Verbs { get; } = [GenerateVerb, RebuildVerb];

    public static long NeededBytes(HistoryShape shape) => (shape.Chunks * BytesPerChunk) + (shape.Points * BytesPerPoint);

    public async Task<GenerationReport> GenerateAsync(CancellationToken cancellationToken)
    {
        Directory.CreateDirectory(folder);
        await WriteAsync(folder, JobFile, job, cancellationToken);
        return await StartAsync<GenerationReport>(GenerateVerb, cancellationToken);
    }

    public Task<List<RoundFigures>> RebuildAsync(CancellationToken cancellationToken) => StartAsync<List<RoundFigures>>(RebuildVerb, cancellationToken);

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
            var job = await ReadAsync<RebuildJob>(folder, JobFile);
            if (verb == GenerateVerb)
            {
                var report = RepositoryGenerator.Run(job.Shape, job.Seed, folder);
                SparsePacks.Write(new PackLayout(job.Seed, job.Shape), Path.Combine(folder, RepositoryGenerator.ObjectsFolder));
                await WriteAsync(folder, ResultOf(verb), report, CancellationToken.None);
                return 0;
            }
            await WriteAsync(folder, ResultOf(verb), await new RebuildMeasurement(job, folder).RunAsync(), CancellationToken.None);
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
