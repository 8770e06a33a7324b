using System.Diagnostics;
using System.Text.Json;

namespace VirtBackup.Testing.Proofs;

/// <summary>
/// Processes of this same program that do one part of a proof each, so that the memory of one is not another's. They speak
/// through JSON files of a folder, which goes with this. One caller at a time.
/// </summary>
public sealed class ProofWorkers(string folder) : IDisposable
{
    private const string JobFile = "job.json";

    public string Folder => folder;

    /// <summary>Makes the folder, and says what all of them are told.</summary>
    public async Task PrepareAsync<T>(T job, CancellationToken cancellationToken)
    {
        Directory.CreateDirectory(folder);
        await WriteAsync(JobFile, job, cancellationToken);
    }

    /// <summary>Runs this program with the arguments VERB FOLDER.</summary>
    /// <returns>What it left with <see cref="LeaveAsync"/>.</returns>
    /// <exception cref="RefutedException">It failed.</exception>
    public async Task<T> RunAsync<T>(string verb, CancellationToken cancellationToken)
    {
        using var process = Process.Start(new ProcessStartInfo(Environment.ProcessPath!, [verb, folder]) { RedirectStandardError = true })!;
        try
        {
            var problem = await process.StandardError.ReadToEndAsync(cancellationToken);
            await process.WaitForExitAsync(cancellationToken);
            return process.ExitCode == 0 ? await ReadResultAsync<T>(verb) : throw new RefutedException(problem.Trim());
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

    /// <summary>In a worker: what it was told.</summary>
    public Task<T> ReadJobAsync<T>() => ReadAsync<T>(JobFile);

    /// <summary>What the worker of that verb left.</summary>
    public Task<T> ReadResultAsync<T>(string verb) => ReadAsync<T>(ResultOf(verb));

    /// <summary>In a worker: leaves its result.</summary>
    public Task LeaveAsync<T>(string verb, T result) => WriteAsync(ResultOf(verb), result, CancellationToken.None);

    /// <summary>In a worker: does its work.</summary>
    /// <returns>The exit code.</returns>
    public static async Task<int> ServeAsync(Func<Task> work)
    {
        ArgumentNullException.ThrowIfNull(work);
        try
        {
            await work();
            return 0;
        }
        catch (RefutedException refuted)
        {
            await Console.Error.WriteLineAsync(refuted.Message);
            return 1;
        }
    }

    public void Dispose()
    {
        if (Directory.Exists(folder))
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static string ResultOf(string verb) => verb + ".json";

    private async Task WriteAsync<T>(string name, T value, CancellationToken cancellationToken) =>
        await File.WriteAllBytesAsync(Path.Combine(folder, name), JsonSerializer.SerializeToUtf8Bytes(value), cancellationToken);

    private async Task<T> ReadAsync<T>(string name) => JsonSerializer.Deserialize<T>(await File.ReadAllBytesAsync(Path.Combine(folder, name)))!;
}
