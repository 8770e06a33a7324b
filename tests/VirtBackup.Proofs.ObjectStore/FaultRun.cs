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
        HttpFault.ServerError, HttpFault.SlowDown, HttpFault.ForeignNotFound, HttpFault.NoAnswer, HttpFault.ResetRequest, HttpFault.FlipRequest, HttpFault.LoseAnswer, HttpFault.HoldAnswer,
        HttpFault.ResetAnswer, HttpFault.ShortAnswer, HttpFault.FlipAnswer, HttpFault.StaleAnswer,
    ];

    private static readonly HttpFault[] s_quickFaults = [.. s_faults.Except([HttpFault.NoAnswer, HttpFault.HoldAnswer])];

    /// <exception cref="RefutedException">Something was lost, doubled or acknowledged too early, or an error is unclear.</exception>
    public static async Task<FaultFigures> RunAsync(LabObjectServer server, ProofOptions options, int trial)
    {
        var random = options.RandomOf(trial, 1);
        using var folder = new LabDirectory();
        await using var proxy = new FaultProxy(server.Endpoint);
        var disk = await TestImage.WriteAsync(folder.File("disk.raw"), DiskBytes, random);
        await using var site = await Site.StartAsync(disk, server.LocationOf($"faults/{options.Seed}-{trial}-{Guid.NewGuid():N}", proxy.Endpoint) + $"&timeout={(options.Short ? 1 : 3)}", scrubs: !options.Short);
        var points = new Dictionary<string, string>();
        var requests = 0L;
        for (var run = 0; run < 2; run++)
        {
            if (run > 0)
            {
                Change(disk, random);
            }
            // The short form's first backup meets no faults: what it asks for is counted.
            var isCounted = options.Short && run == 0;
            var before = isCounted ? await site.AskAsync() : default;
            proxy.Choose = isCounted ? static (_, _) => HttpFault.None : Plan(options, trial, run);
            var result = await site.Installation.RunAsync("backup", "run", "m");
            proxy.Choose = static (_, _) => HttpFault.None;
            if (isCounted)
            {
                requests = SpeedRun.RequireFew(before, await site.AskAsync());
            }
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
        }
        var faults = proxy.Faults;
        if (options.Sabotage == "lost-object")
        {
            await Bucket.DeleteOneAsync(server, site.Installation.Repository, "/packs/");
        }
        await RequireAllAsync(site, points, trial, restored: options.Short ? 1 : points.Count);
        if (!options.Short)
        {
            // A start with old lists is refused in one sentence, or ends well; the next one has everything again.
            await RestartAsync(site, proxy);
            await RequireAllAsync(site, points, trial, points.Count);
        }
        return new FaultFigures(faults, points.Count, requests);
    }

    private static Func<string, string, HttpFault> Plan(ProofOptions options, int trial, int run)
    {
        var random = options.RandomOf(trial, 10 + run);
        var gate = new Lock();
        var swallowed = false;
        // The short form has few requests and little time: soon, few, and of two kinds of which one at most lets the product wait.
        var (every, left) = options.Short ? (3, 4) : (5, int.MaxValue);
        HttpFault[] kinds = options.Short ? [s_faults[random.Next(s_faults.Length)], s_quickFaults[random.Next(s_quickFaults.Length)]] : s_faults;
        return (method, target) =>
        {
            lock (gate)
            {
                if (options.Sabotage == "swallowed-put" && !swallowed && method == "PUT" && target.Contains("/packs/", StringComparison.Ordinal))
                {
                    swallowed = true;
                    return HttpFault.Swallow;
                }
                var fault = random.Next(every) == 0 ? kinds[random.Next(kinds.Length)] : HttpFault.None;
                var isList = IsList(target);
                fault = fault switch
                {
                    // A name in a list has no hash of its own: only the connection's encryption protects it.
                    HttpFault.FlipAnswer when method != "GET" || isList => HttpFault.None,
                    HttpFault.StaleAnswer when !isList => HttpFault.LoseAnswer,
                    HttpFault.ShortAnswer when method != "GET" || isList => HttpFault.None,
                    HttpFault.FlipRequest when method != "PUT" => HttpFault.None,
                    _ => fault,
                };
                return fault != HttpFault.None && left-- > 0 ? fault : HttpFault.None;
            }
        };
    }

    private static bool IsList(string target) => target.Contains("list-type=", StringComparison.Ordinal) || target.Contains("comp=list", StringComparison.Ordinal);

    private static void Change(string disk, Random random)
    {
        var bytes = new byte[ChangeBytes];
        random.NextBytes(bytes);
        using var file = File.OpenWrite(disk);
        file.Position = random.Next(DiskBytes - ChangeBytes);
        file.Write(bytes);
    }

    private static async Task RestartAsync(Site site, FaultProxy proxy)
    {
        await site.Installation.Controller.StopAsync();
        proxy.Choose = static (_, target) => IsList(target) ? HttpFault.StaleAnswer : HttpFault.None;
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

    private static async Task RequireAllAsync(Site site, Dictionary<string, string> points, int trial, int restored)
    {
        await site.RequireSoundAsync();
        var listed = await site.Installation.ListPointsAsync();
        if (points.Keys.FirstOrDefault(point => !listed.Contains(point)) is { } lost)
        {
            throw new RefutedException($"recovery point {lost} was acknowledged and is gone") { Trial = trial };
        }
        foreach (var (point, copy) in points.TakeLast(restored))
        {
            await site.RequireRestoresAsync(point, copy, $"restored-{Guid.NewGuid():N}"[..20]);
        }
    }
}

/// <param name="Faults">Requests that were spoiled.</param>
/// <param name="Backups">That succeeded.</param>
/// <param name="Requests">Of a first backup without faults; 0: not counted.</param>
internal readonly record struct FaultFigures(int Faults, int Backups, long Requests);
