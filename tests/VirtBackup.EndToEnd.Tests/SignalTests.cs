using System.Security.Cryptography;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>A machine whose files are encrypted, as operators see it.</summary>
public sealed class SignalTests
{
    private const int ImageBytes = 8 << 20;

    [Fact]
    public async Task The_points_before_an_encryption_stay_whatever_the_rules_say()
    {
        using var disks = new LabDirectory();
        var image = disks.File("disk.raw");
        await File.WriteAllBytesAsync(image, [.. Enumerable.Range(0, ImageBytes / 16).SelectMany(static line => System.Text.Encoding.ASCII.GetBytes($"line {line,10}\n"))], TestContext.Current.CancellationToken);
        var (installation, _) = await Installation.StartAsync((_, agent) => agent.Add("m", Guid.NewGuid(), new InstalledImage(image, LabDiskFormat.Raw, "disk")));
        await using var _ = installation;
        await installation.WaitForMachineAsync("m");
        var points = new List<string>();
        for (var run = 0; run < 6; run++)
        {
            points.Add(Outcomes.PointOf(await installation.BackUpAsync("m")));
            Overwrite(image, run * 512 << 10, System.Text.Encoding.ASCII.GetBytes($"changed in run {run}"));
        }
        var before = (await installation.RunAsync("vm", "show", "m")).Json;
        Assert.Equal((6, 0), (before.GetProperty("recent_runs").GetArrayLength(), before.GetProperty("virtual_machine").GetProperty("flagged_runs").GetInt32()));
        (await installation.RunAsync("retention", "set", "strict", "--last", "1", "--default")).EnsureSuccess();

        Overwrite(image, 0, RandomNumberGenerator.GetBytes(ImageBytes / 2));
        points.Add(Outcomes.PointOf(await installation.BackUpAsync("m")));
        var run6 = (await installation.RunAsync("vm", "show", "m")).Json.GetProperty("recent_runs")[0];
        Assert.Equal(("abnormal", points[6]), (run6.GetProperty("verdict").GetString(), run6.GetProperty("point_id").GetString()));
        // Where chunks end is up to the repository's key: some of up to 512 KiB are new beyond the half, of text that compresses.
        Assert.InRange(run6.GetProperty("new_share").GetDouble(), 0.5, 0.75);
        Assert.InRange(run6.GetProperty("stored_share").GetDouble(), 0.66, 1.1);
        Assert.Equal(1, (await installation.RunAsync("controller", "status")).Json.GetProperty("virtual_machines_flagged").GetInt32());

        (await installation.RunAsync("retention", "apply")).EnsureSuccess();
        Assert.Equal(points.AsEnumerable().Reverse(), await installation.ListPointsAsync());
        var job = (await installation.RunAsync("job", "list", "--limit", "20")).Json.GetProperty("jobs").EnumerateArray().First(static job => job.GetProperty("kind").GetString() == "backup");
        Assert.Contains("This run is unusual", (await installation.RunAsync("job", "log", job.GetProperty("job_id").GetString()!)).Stdout, StringComparison.Ordinal);

        Assert.Equal(6, (await installation.RunAsync("vm", "accept", "m")).Json.GetProperty("holds_released").GetInt32());
        (await installation.RunAsync("retention", "apply")).EnsureSuccess();
        Assert.Equal([points[6]], await installation.ListPointsAsync());
        Outcomes.AssertOneError(await installation.RunAsync("vm", "accept", "m"), 4, "No run of 'm' is flagged");
    }

    private static void Overwrite(string path, long offset, byte[] bytes)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.Write);
        file.Position = offset;
        file.Write(bytes);
    }
}
