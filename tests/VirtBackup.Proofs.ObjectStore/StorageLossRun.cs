using System.Globalization;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.ObjectStore;

/// <summary>One of three storage daemons is killed in the middle of a backup: it goes on when the others have noticed.</summary>
internal static class StorageLossRun
{
    private const long DiskBytes = 1L << 30;

    /// <returns>The figures.</returns>
    /// <exception cref="RefutedException">The backup fails, or what it made is not whole.</exception>
    public static async Task<string> RunAsync(LabObjectServer server, ProofOptions options)
    {
        var random = options.RandomOf(options.StartTrial, 2);
        using var folder = new LabDirectory();
        var disk = await TestImage.WriteAsync(folder.File("disk.raw"), DiskBytes, random);
        await using var site = await Site.StartAsync(disk, server.LocationOf($"loss/{Guid.NewGuid():N}"));
        var clock = System.Diagnostics.Stopwatch.StartNew();
        var job = await site.Installation.BeginBackUpAsync("m", "reading");
        await Task.Delay(TimeSpan.FromMilliseconds(random.Next(2000)));
        await server.KillStorageAsync(random.Next(3));
        var ended = await site.Installation.FollowAsync(job);
        if (ended.ExitCode != 0)
        {
            throw new RefutedException($"a backup did not outlast the death of a storage daemon: {ended.Stderr}");
        }
        var seconds = clock.Elapsed.TotalSeconds;
        await site.RequireSoundAsync();
        var points = await site.Installation.ListPointsAsync();
        if (points.Count != 1)
        {
            throw new RefutedException($"one backup made {points.Count} recovery points");
        }
        await site.RequireRestoresAsync(points[0], disk, "restored");
        return string.Create(CultureInfo.InvariantCulture, $"storage-daemon-killed: backup={seconds:0.0}s");
    }
}
