using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.ObjectStore;

/// <summary>
/// One site whose requests and answers are spoiled by chance: each backup ends well or with one clear error; afterwards
/// everything that is listed restores to what was backed up, and nothing is damaged.
/// </summary>
internal static class FaultRun
{
    private const int DiskBytes = 6 << 20;
    private const int ChangeBytes = 1 << 20;

    // Each of them in both directions, where it has two.
    private static readonly HttpFault[] s_faults =
    [
        HttpFault.ServerError, HttpFault.SlowDown, HttpFault.NoAnswer, HttpFault.ResetRequest, HttpFault.FlipRequest, HttpFault.LoseAnswer, HttpFault.HoldAnswer,
        HttpFault.ResetAnswer, HttpFault.ShortAnswer, HttpFault.FlipAnswer, HttpFault.StaleAnswer,
    ];

    /// <exception cref="RefutedException">Something was lost, doubled or acknowledged too early, or an error is unclear.</exception>
    public static async Task<(int Faults, int Backups)> RunAsync(LabObjectServer server, ProofOptions options, int trial)
    {
        var random = options.RandomOf(trial, 1);
        using var folder = new LabDirectory();
        await using var proxy = new FaultProxy(server.Endpoint);
        var disk = await TestImage.WriteAsync(folder.File("disk.raw"), DiskBytes, random);
        await using var site = await Site.StartAsync(disk, server.LocationOf($"faults/{options.Seed}-{trial}-{Guid.NewGuid():N}", proxy.Endpoint) + "&timeout=3");
        var points = new Dictionary<string, string>();
        for (var run = 0; run < 2; run++)
        {
            proxy.Choose = Plan(options, trial, run);
            var result = await site.Installation.RunAsync("backup", "run", "m");
            proxy.Choose = static (_, _) => HttpFault.None;
            if (result.ExitCode == 0)
            {
                var copy = folder.File($"copy-{run}.raw");
                File.Copy(disk, copy);
                points.Add(Site.PointOf(result.Json.GetProperty("result").GetProperty("backup")), copy);
            }
            else if (result.Errors.Count != 1 || result.Stderr.Contains("   at ", StringComparison.Ordinal))
            {
                throw new RefutedException($"a backup failed without one clear error: {result.Stderr}") { Trial = trial };
            }
            Change(disk, random);
        }
        var faults = proxy.Faults;
        await SpoilAsync(site, options);
        await RequireAllAsync(site, points, trial);
        // A start with old lists is refused in one sentence, or ends well; the next one has everything again.
        await RestartAsync(site, proxy);
        await RequireAllAsync(site, points, trial);
        return (faults, points.Count);
    }

    private static Func<string, string, HttpFault> Plan(ProofOptions options, int trial, int run)
    {
        var random = options.RandomOf(trial, 10 + run);
        var gate = new Lock();
        var swallowed = false;
        return (method, target) =>
        {
            lock (gate)
            {
                if (options.Sabotage == "swallowed-put" && !swallowed && method == "PUT" && target.Contains("/packs/", StringComparison.Ordinal))
                {
                    swallowed = true;
                    return HttpFault.Swallow;
                }
                var fault = random.Next(5) == 0 ? s_faults[random.Next(s_faults.Length)] : HttpFault.None;
                var isList = target.Contains("list-type=", StringComparison.Ordinal);
                return fault switch
                {
                    // A name in a list has no hash of its own: only the connection's encryption protects it.
                    HttpFault.FlipAnswer when method != "GET" || isList => HttpFault.None,
                    HttpFault.StaleAnswer when !isList => HttpFault.LoseAnswer,
                    HttpFault.ShortAnswer when method != "GET" || isList => HttpFault.None,
                    HttpFault.FlipRequest when method != "PUT" => HttpFault.None,
                    _ => fault,
                };
            }
        };
    }

    private static void Change(string disk, Random random)
    {
        var bytes = new byte[ChangeBytes];
        random.NextBytes(bytes);
        using var file = File.OpenWrite(disk);
        file.Position = random.Next(DiskBytes - ChangeBytes);
        file.Write(bytes);
    }

    private static async Task SpoilAsync(Site site, ProofOptions options)
    {
        if (options.Sabotage == "lost-object")
        {
            await Bucket.DeleteOneAsync(site.Installation.Repository, "/packs/");
        }
    }

    private static async Task RestartAsync(Site site, FaultProxy proxy)
    {
        await site.Installation.Controller.StopAsync();
        proxy.Choose = static (_, target) => target.Contains("list-type=", StringComparison.Ordinal) ? HttpFault.StaleAnswer : HttpFault.None;
        try
        {
            await site.Installation.Controller.StartAsync();
            await site.Installation.Controller.StopAsync();
        }
        catch (LabException refused) when (refused.Message.Contains("virtbackupd: ", StringComparison.Ordinal))
        {
            // It said why.
        }
        proxy.Choose = static (_, _) => HttpFault.None;
        await site.Installation.Controller.StartAsync();
        await site.Installation.WaitForMachineAsync("m");
    }

    private static async Task RequireAllAsync(Site site, Dictionary<string, string> points, int trial)
    {
        await site.RequireSoundAsync();
        var listed = await site.Installation.ListPointsAsync();
        if (points.Keys.FirstOrDefault(point => !listed.Contains(point)) is { } lost)
        {
            throw new RefutedException($"recovery point {lost} was acknowledged and is gone") { Trial = trial };
        }
        foreach (var (point, copy) in points)
        {
            await site.RequireRestoresAsync(point, copy, $"restored-{Guid.NewGuid():N}"[..20]);
        }
    }
}
