using System.Diagnostics;
using System.Globalization;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.ObjectStores;
using VirtBackup.Repository;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Scrubbing;

namespace VirtBackup.Proofs.ScrubSpeed;

/// <summary>A process that scrubs a repository and says how long that took: its own, so that it can be bound to one processor.</summary>
internal static class ScrubWorker
{
    public const string Option = "--scrub";

    private const long WarmUpBytes = 64 << 20;

    /// <param name="arguments">The folder; how many times it is scrubbed; a planted defect, if there is one.</param>
    /// <returns>The exit code. Printed are seconds, processor seconds and bytes, of all times together.</returns>
    public static async Task<int> RunAsync(string[] arguments)
    {
        var (path, times) = (arguments[0], int.Parse(arguments[1], CultureInfo.InvariantCulture));
        using var folder = LocalFolderStore.Open(path);
        IObjectStore store = arguments is [_, _, ScrubSpeedProof.HashAgain] ? new HashingAgain(folder) : folder;
        await using var index = SqliteDatabase.Open($"{path}.sqlite", RepositoryIndex.Schema);
        await using var repository = await BackupRepository.OpenAsync(
            store, index, new RepositoryOptions(), TimeProvider.System, SystemEntropy.Instance, CancellationToken.None);
        // A controller runs for months: its code is compiled.
        await repository.Upkeep.ScrubAsync(new ScrubOptions { CheckedBeforeMs = long.MaxValue, BytesMax = WarmUpBytes }, CancellationToken.None);
        long bytes = 0;
        var (watch, before) = (Stopwatch.StartNew(), Environment.CpuUsage.TotalTime);
        for (var i = 0; i < times; i++)
        {
            // A pack is due again once the clock has moved on.
            await Task.Delay(2);
            var report = await repository.Upkeep.ScrubAsync(new ScrubOptions { CheckedBeforeMs = long.MaxValue }, CancellationToken.None);
            if (!report.IsDone || report.DamageCount > 0)
            {
                Console.Error.WriteLine($"A sound repository is called damaged, or was not read to its end: {report}");
                return 1;
            }
            bytes += report.Bytes;
        }
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture, $"{watch.Elapsed.TotalSeconds:0.000000} {(Environment.CpuUsage.TotalTime - before).TotalSeconds:0.000000} {bytes}"));
        return 0;
    }
}
