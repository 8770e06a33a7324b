using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>How long recovery points stay, as operators see it.</summary>
public sealed class RetentionTests
{
    [Fact]
    public async Task Points_go_as_the_rules_say_and_stay_for_holds_locks_and_proofs()
    {
        using var disks = new LabDirectory();
        var image = await Disks.WriteRandomAsync(disks.File("disk.raw"), 1 << 20);
        var (installation, _) = await Installation.StartAsync((_, agent) => agent.Add("m", Guid.NewGuid(), new InstalledImage(image, LabDiskFormat.Raw, "disk")));
        await using var _ = installation;
        await installation.WaitForMachineAsync("m");
        var points = new List<string>();
        for (var i = 0; i < 5; i++)
        {
            points.Add(Outcomes.PointOf(await installation.BackUpAsync("m")));
        }
        (await installation.RunAsync("recovery-point", "verify", points[0])).EnsureSuccess();
        (await installation.RunAsync("recovery-point", "hold", points[1], "--reason", "court")).EnsureSuccess();
        (await installation.RunAsync("recovery-point", "lock", points[2], "--for", "30d")).EnsureSuccess();
        Outcomes.AssertOneError(await installation.RunAsync("recovery-point", "lock", points[2], "--for", "1d"), 4, "never shortened");
        (await installation.RunAsync("retention", "set", "strict", "--last", "1", "--default")).EnsureSuccess();

        var simulation = (await installation.RunAsync("retention", "simulate", "m", "--no-further-points")).EnsureSuccess().Json;
        Assert.Equal(points[3], Assert.Single(
            simulation.GetProperty("recovery_points").EnumerateArray(), static point => point.GetProperty("retention").GetProperty("kept_by").GetArrayLength() == 0).GetProperty("point_id").GetString());
        var applied = (await installation.RunAsync("retention", "apply")).EnsureSuccess().Json.GetProperty("result").GetProperty("retention");
        Assert.Equal((1, 4), (applied.GetProperty("expired_total").GetInt32(), applied.GetProperty("points_kept").GetInt32()));
        Assert.Equal([points[4], points[2], points[1], points[0]], await installation.ListPointsAsync());

        Outcomes.AssertOneError(await installation.RunAsync("recovery-point", "forget", points[1]), 4, "held by operator: court");
        Outcomes.AssertOneError(await installation.RunAsync("recovery-point", "forget", points[2]), 4, "locked until");
        // A restart within one boot leaves the time as sure as it was.
        await installation.Controller.StopAsync();
        await installation.Controller.StartAsync();
        Assert.False((await installation.RunAsync("controller", "status")).EnsureSuccess().Json.GetProperty("time_unconfirmed").GetBoolean());
        (await installation.RunAsync("controller", "confirm-time")).EnsureSuccess();
        (await installation.RunAsync("recovery-point", "release", points[1])).EnsureSuccess();
        (await installation.RunAsync("retention", "apply", "--vm", "m")).EnsureSuccess();
        Assert.Equal([points[4], points[2], points[0]], await installation.ListPointsAsync());
        (await installation.RunAsync("recovery-point", "forget", points[3], "--undo")).EnsureSuccess();
        (await installation.RunAsync("recovery-point", "verify", points[3])).EnsureSuccess();
    }

    [Fact]
    public async Task A_collection_keeps_what_can_be_brought_back()
    {
        using var disks = new LabDirectory();
        var image = await Disks.WriteRandomAsync(disks.File("disk.raw"), 3 << 20);
        var (installation, _) = await Installation.StartAsync((_, agent) => agent.Add("m", Guid.NewGuid(), new InstalledImage(image, LabDiskFormat.Raw, "disk")));
        await using var _ = installation;
        await installation.WaitForMachineAsync("m");
        var point = Outcomes.PointOf(await installation.BackUpAsync("m"));
        (await installation.RunAsync("recovery-point", "forget", point)).EnsureSuccess();
        foreach (var arguments in new string[][] { ["--dry-run"], ["--audit"], [] })
        {
            var result = (await installation.RunAsync(["repository", "gc", .. arguments])).EnsureSuccess().Json.GetProperty("result").GetProperty("collection");
            Assert.Equal((0, 1), (result.GetProperty("points_purged").GetInt32(), result.GetProperty("points_recallable").GetInt32()));
        }
        (await installation.RunAsync("recovery-point", "forget", point, "--undo")).EnsureSuccess();
        (await installation.RunAsync("repository", "verify", "--full")).EnsureSuccess();
    }
}
