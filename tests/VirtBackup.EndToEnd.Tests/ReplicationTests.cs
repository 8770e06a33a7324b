using System.Text;
using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>Two sites, each with a controller and an agent of its own, as operators work with them.</summary>
public sealed class ReplicationTests
{
    private const int DiskBytes = 24 << 20;
    private const int ChangedBytes = 2 << 20;

    [Fact]
    public async Task A_machine_goes_to_another_site_across_killed_controllers_is_restored_and_backed_up_there_and_comes_back()
    {
        using var disks = new LabDirectory();
        var image = await Disks.WriteRandomAsync(disks.File("disk.raw"), DiskBytes);
        var machine = Guid.NewGuid();
        var (east, eastAgent) = await Installation.StartAsync((_, agent) =>
        {
            // What travels is counted below.
            agent.Chunks = "fixed-256K";
            agent.Add("m", machine, new InstalledImage(image, LabDiskFormat.Raw, "disk"));
        });
        await using var _ = east;
        var (west, westAgent) = await Installation.StartAsync(static (_, agent) => agent.Chunks = "fixed-256K");
        await using var __ = west;
        await JoinAsync(east, "east", west, "west");

        await east.WaitForMachineAsync("m");
        var first = Outcomes.PointOf(await east.BackUpAsync("m"));
        var content = await File.ReadAllBytesAsync(image);

        // Nothing is allowed that was not said; then the points of this machine are.
        Assert.Equal(0, ReplicationOf(await west.RunAsync("replication", "run", "east")).GetProperty("points_received").GetInt32());
        (await east.RunAsync("peer", "allow", "west", "--vm", "m")).EnsureSuccess();

        // Either controller dies in the middle; nothing is listed that is not whole.
        (await west.RunAsync("replication", "rule", "set", "east", "--every", "365d", "--paused", "--rate-limit", "1MiB")).EnsureSuccess();
        foreach (var dies in new[] { west, east })
        {
            await BeginAsync(west);
            await dies.Controller.KillAsync();
            await dies.Controller.StartAsync();
            Assert.Empty(await west.ListPointsAsync());
        }
        (await west.RunAsync("replication", "rule", "set", "east", "--every", "365d", "--paused")).EnsureSuccess();
        var arrived = ReplicationOf(await RunUntilWholeAsync(west, "east", first));
        Assert.InRange(arrived.GetProperty("bytes_received").GetInt64(), 1, DiskBytes * 102L / 100);
        var lag = StatusOf(await west.RunAsync("replication", "status", "east"));
        Assert.Equal((0, JsonValueKind.Null), (lag.GetProperty("points_missing").GetInt32(), lag.GetProperty("lag_seconds").ValueKind));

        // Without keys it is listed, proven, and not restored.
        var origin = (await west.RunAsync("recovery-point", "show", first)).Json.GetProperty("origin");
        Assert.Equal(("east", true), (origin.GetProperty("peer").GetString(), origin.GetProperty("sealed").GetBoolean()));
        Assert.Equal(0, DamagesOf(await west.RunAsync("repository", "verify")));
        Outcomes.AssertOneError(await west.RunAsync("restore", "run", first, "--folder", west.File("sealed"), "--agent", westAgent.Name), 4, "sealed");
        (await west.RunAsync("peer", "unlock", "east", "--kit", east.Kit)).EnsureSuccess();
        var restored = await west.RestoreDisksAsync(first, "m", "--keep-identity", "--agent", westAgent.Name);
        Assert.Equal(content, await File.ReadAllBytesAsync(restored["disk"]));

        // East is given up; the machine goes on in the west, in the same history.
        await eastAgent.Service.StopAsync();
        var format = Disks.FormatOf(restored["disk"]);
        westAgent.Add("m", machine, new InstalledImage(restored["disk"], format, "disk"));
        await westAgent.Service.RestartAsync();
        await west.WaitForMachineAsync("m");
        Random.Shared.NextBytes(content.AsSpan(5 << 20, ChangedBytes));
        await File.WriteAllBytesAsync(restored["disk"], content);
        var second = Outcomes.PointOf(await west.BackUpAsync("m"));

        // And back: only the difference travels, and is written into the disk that is still there.
        await JoinAsync(west, "west", east, "east");
        (await west.RunAsync("peer", "allow", "east", "--vm", "m")).EnsureSuccess();
        var back = ReplicationOf(await RunUntilWholeAsync(east, "west", second));
        Assert.Equal(1, back.GetProperty("points_received").GetInt32());
        Assert.InRange(back.GetProperty("bytes_received").GetInt64(), ChangedBytes, ChangedBytes + (128 << 10));
        Assert.Equal([second, first], await east.ListPointsAsync());
        await eastAgent.Service.StartAsync();
        await east.WaitForMachineAsync("m");
        Assert.Equal(content, await File.ReadAllBytesAsync((await east.RestoreDisksAsync(second, "back"))["disk"]));
        Assert.Equal(0, DamagesOf(await east.RunAsync("repository", "verify", "--full")));

        // A revoked peer is told so, at once.
        (await west.RunAsync("peer", "revoke", "east")).EnsureSuccess();
        Assert.Contains("revoked", (await east.RunAsync("replication", "run", "west")).Stderr, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_guest_boots_at_a_site_that_can_only_be_offered_to()
    {
        var guest = await LabGuest.GetAsync();
        await using var vm = await LabVm.BootAsync(new LabVmOptions
        {
            Name = "web", Disks = [new LabDiskOptions { NodeName = "root", CopyFrom = guest.RootDisk }, new LabDiskOptions { NodeName = "data", CopyFrom = guest.DataDisk, Format = LabDiskFormat.Raw }],
        });
        var (east, _) = await Installation.StartAsync((_, agent) => agent.Add(vm));
        await using var _ = east;
        var (west, westAgent) = await Installation.StartAsync(static (_, _) => { });
        await using var __ = west;

        // West cannot dial: east holds the certificate, dials, and is asked.
        await JoinAsync(west, "west", east, "east", "--offer");
        (await east.RunAsync("peer", "allow", "west", "--all")).EnsureSuccess();
        (await west.RunAsync("replication", "rule", "set", "east", "--continuous")).EnsureSuccess();
        await vm.WriteFileAsync("/data/marker", Encoding.UTF8.GetBytes("kept"));
        await east.WaitForMachineAsync("web", running: true);
        var point = Outcomes.PointOf(await east.BackUpAsync("web"));
        await Installation.PollAsync("the recovery point in the west", async () => (await west.ListPointsAsync()).Contains(point));

        // The east burns. What is left is its kit, and what the west has.
        await east.Controller.KillAsync();
        await vm.DisposeAsync();
        (await west.RunAsync("peer", "unlock", "--kit", east.Kit)).EnsureSuccess();
        await using var restored = RestoredVm.Of((await west.RunAsync("restore", "run", point, "--folder", west.File("web"), "--agent", westAgent.Name)).Json);
        Assert.Equal("kept", Encoding.UTF8.GetString(await restored.ReadFileAsync("/data/marker")));
    }

    [Fact]
    public async Task A_peers_certificate_is_renewed_in_time_and_one_that_expired_says_what_to_do()
    {
        await using var east = await Installation.CreateAsync();
        await using var west = await Installation.CreateAsync();
        await east.Controller.StartAsync();
        await west.Controller.StartAsync();
        await JoinAsync(east, "east", west, "west");
        var folder = Path.Combine(west.Home, "peers", "east");
        var certificate = new IssuedCertificate(Path.Combine(folder, "tls.crt"), east.Home);
        var key = await File.ReadAllTextAsync(Path.Combine(folder, "tls.key"));
        var now = DateTimeOffset.UtcNow;
        foreach (var (until, isRenewed) in new[] { (now.AddDays(5), true), (now.AddMinutes(-1), false) })
        {
            await west.Controller.StopAsync();
            await certificate.RedateAsync(now.AddDays(-25), until);
            await west.Controller.StartAsync();
            if (isRenewed)
            {
                await Installation.PollAsync("the renewal", () => Task.FromResult(certificate.Read().NotAfter.ToUniversalTime() > now.AddDays(25)));
            }
        }
        Assert.Contains("expired", (await west.RunAsync("replication", "run", "east")).Stderr, StringComparison.Ordinal);
        Assert.Equal(key, await File.ReadAllTextAsync(Path.Combine(folder, "tls.key")));

        // Joining anew helps, with a new key.
        await JoinAsync(east, "east", west, "west");
        (await west.RunAsync("replication", "run", "east")).EnsureSuccess();
        Assert.NotEqual(key, await File.ReadAllTextAsync(Path.Combine(folder, "tls.key")));
    }

    /// <summary>Has a controller join another one: a token is made there, and used here.</summary>
    private static async Task JoinAsync(Installation there, string nameOfThere, Installation here, string nameOfHere, params string[] options)
    {
        var token = here.File($"token-of-{nameOfThere}");
        await File.WriteAllTextAsync(token, (await there.RunAsync("peer", "token", nameOfHere)).Json.GetProperty("join_token").GetString());
        (await here.RunAsync(["peer", "add", nameOfThere, "--token-file", token, .. options])).EnsureSuccess();
        File.Delete(token);
    }

    /// <summary>Starts a run, and returns when a part of the data is there.</summary>
    private static async Task BeginAsync(Installation west)
    {
        var job = (await west.RunAsync("replication", "run", "east", "--detach")).Json.GetProperty("job_id").GetString()!;
        await Installation.PollAsync("data of the run", async () =>
            (await west.RunAsync("job", "show", job)).Json.GetProperty("progress") is { ValueKind: JsonValueKind.Object } progress && progress.GetProperty("bytes_done").GetInt64() > 2 << 20);
    }

    /// <summary>Runs again until the point is there: right after a controller was killed, the other side may still see the old connection.</summary>
    private static async Task<CommandResult> RunUntilWholeAsync(Installation here, string peer, string point)
    {
        CommandResult? result = null;
        await Installation.PollAsync($"the point from {peer}", async () =>
        {
            result = await here.RunAsync("replication", "run", peer);
            return result.ExitCode == 0 && (await here.ListPointsAsync()).Contains(point);
        });
        return result!;
    }

    private static JsonElement ReplicationOf(CommandResult result) => result.Json.GetProperty("result").GetProperty("replication");

    private static JsonElement StatusOf(CommandResult result) => result.Json.GetProperty("rules").EnumerateArray().Single().GetProperty("machines").EnumerateArray().Single();

    private static int DamagesOf(CommandResult result) => result.Json.GetProperty("result").GetProperty("verify").GetProperty("damages_total").GetInt32();
}
