using System.Diagnostics;
using System.Globalization;
using Amazon.Runtime;
using Amazon.S3;
using Amazon.S3.Model;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.ObjectStore;

/// <summary>One image backed up in full into a folder and into the store; and the folder's packs put into the store by the bare SDK.</summary>
internal static class SpeedRun
{
    private const double WallMax = 1.1;
    private const double RequestsPerGibMax = 20;

    // What a short backup may ask for: its packs, keys, manifest, the owner's claims, the settling of its outcome, and what a busy machine repeats.
    private const int RequestsOfShortMax = 20;

    /// <param name="server">The store.</param>
    /// <param name="disk">A raw image.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <returns>The figures.</returns>
    /// <exception cref="RefutedException">A bound does not hold.</exception>
    public static async Task<string> RunAsync(LabObjectServer server, string disk, CancellationToken cancellationToken)
    {
        double folderSeconds, putSeconds;
        await using (var local = await Site.StartAsync(disk, repository: null, scrubs: false))
        {
            (_, folderSeconds) = await TimeAsync(local);
            putSeconds = await PutAsync(server, local.Installation.Repository, cancellationToken);
        }
        await using var site = await Site.StartAsync(disk, server.LocationOf("speed"), scrubs: false);
        var before = await site.AskAsync();
        var (point, seconds) = await TimeAsync(site);
        var after = await site.AskAsync();
        await site.RequireRestoresAsync(point, disk, "restored");
        var asked = after.Since(before);
        var gib = asked.StoredBytes / (double)(1 << 30);
        // What keeps the lease comes with time and not with what is stored: it is counted apart, and told.
        var (ratio, each) = (seconds / (folderSeconds + putSeconds), (asked.Requests - asked.Lease) / gib);
        var figures = string.Create(
            CultureInfo.InvariantCulture,
            $"wall={seconds:0.0}s folder={folderSeconds:0.0}s puts={putSeconds:0.0}s ratio={ratio:0.00} requests={asked.Requests - asked.Lease} lease-requests={asked.Lease} (all: writes={asked.Writes} reads={asked.Reads}) packs={asked.Packs} stored={gib:0.00}GiB requests/GiB={each:0.0} with-lease/GiB={asked.Requests / gib:0.0}");
        if (ratio > WallMax || each > RequestsPerGibMax)
        {
            throw new RefutedException($"a backup into the store is too slow or asks too much: {figures}");
        }
        return figures;
    }

    /// <summary>What a short backup asked for.</summary>
    /// <exception cref="RefutedException">It is too much.</exception>
    public static long RequireFew(in Asked before, in Asked after)
    {
        var requests = after.Requests - after.Lease - (before.Requests - before.Lease);
        return requests is > 0 and <= RequestsOfShortMax ? requests : throw new RefutedException($"a backup of some megabytes asked the store {requests} times; at most {RequestsOfShortMax} are right");
    }

    private static async Task<(string Point, double Seconds)> TimeAsync(Site site)
    {
        var clock = Stopwatch.StartNew();
        var point = await site.Installation.BackUpAsync("m");
        return (Site.PointOf(point), clock.Elapsed.TotalSeconds);
    }

    private static async Task<double> PutAsync(LabObjectServer server, string repository, CancellationToken cancellationToken)
    {
        using var client = new AmazonS3Client(new AmazonS3Config
        {
            ServiceURL = server.Endpoint, ForcePathStyle = true, AuthenticationRegion = "us-east-1",
            RequestChecksumCalculation = RequestChecksumCalculation.WHEN_REQUIRED, ResponseChecksumValidation = ResponseChecksumValidation.WHEN_REQUIRED,
        });
        var clock = Stopwatch.StartNew();
        foreach (var file in Directory.EnumerateFiles(repository, "*", SearchOption.AllDirectories).Where(static file => Path.GetFileName(file) != "lock"))
        {
            await using var content = File.OpenRead(file);
            await client.PutObjectAsync(
                new PutObjectRequest { BucketName = "virtbackup", Key = "bare/" + Path.GetRelativePath(repository, file), InputStream = content, UseChunkEncoding = false }, cancellationToken);
        }
        return clock.Elapsed.TotalSeconds;
    }
}
