using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>A second place of the repository, from the operator's first command to the day on which it is all that is left.</summary>
public sealed class CopyTests
{
    [Theory]
    [InlineData("folder")]
    [InlineData("azure")]
    [InlineData("s3")]
    public async Task What_is_left_after_the_first_place_burned_is_a_controller_with_all_recovery_points(string kind)
    {
        await using var server = kind switch
        {
            "azure" => await LabObjectServer.StartAzuriteAsync(),
            "s3" => await LabObjectServer.StartCephAsync(),
            _ => null,
        };
        server?.UseCredentials();
        using var disks = new LabDirectory();
        var image = await Disks.WriteRandomAsync(disks.File("disk.raw"), 9 << 20);
        var machine = Guid.NewGuid();
        var contents = new List<byte[]> { await File.ReadAllBytesAsync(image, TestContext.Current.CancellationToken) };
        var (installation, agent) = await Installation.StartAsync((_, agent) => agent.Add("m", machine, new InstalledImage(image, LabDiskFormat.Raw, "disk")));
        await using var _ = installation;
        await installation.WaitForMachineAsync("m");
        var place = server?.LocationOf("copies/one") ?? installation.File("second");

        var points = new List<string> { Outcomes.PointOf(await installation.BackUpAsync("m")) };
        var added = (await installation.RunAsync("store", "add", "second", "--location", place, "--off-site")).EnsureSuccess().Json;
        Assert.Equal((kind, 0), (added.GetProperty("kind").GetString(), added.GetProperty("points").GetInt32()));
        Outcomes.AssertOneError(await installation.RunAsync("store", "add", "third", "--location", place), 4, "already");
        (await installation.RunAsync("copies", "set", "all", "--machines", "all", "--copies", "2", "--offsite", "1", "--lock-days", "3", "--within", "1h")).EnsureSuccess();
        await WaitForCopiesAsync(installation, 1);

        // The next one follows by itself.
        contents.Add(await File.ReadAllBytesAsync(await Disks.WriteRandomAsync(image, contents[0].Length), TestContext.Current.CancellationToken));
        points.Add(Outcomes.PointOf(await installation.BackUpAsync("m")));
        await WaitForCopiesAsync(installation, 2);
        var status = await StatusAsync(installation);
        Assert.Equal(
            ("met", 2, 1, points[1]),
            (status.GetProperty("state").GetString(), status.GetProperty("copies").GetInt32(), status.GetProperty("off_site").GetInt32(), status.GetProperty("point_id").GetString()));
        Assert.NotEqual(JsonValueKind.Null, status.GetProperty("locked_until_time").ValueKind);

        // A restart opens it again, and has nothing to copy.
        Assert.Equal(0, await installation.Controller.StopAsync());
        await installation.Controller.StartAsync();
        await WaitForCopiesAsync(installation, 2);
        var run = (await installation.RunAsync("store", "run", "second")).EnsureSuccess().Json.GetProperty("result").GetProperty("copy");
        Assert.Equal((0, 0), (run.GetProperty("points_copied").GetInt32(), run.GetProperty("points_refused").GetInt32()));

        await agent.Service.StopAsync();
        if (server is null)
        {
            await installation.Controller.KillAsync();
        }
        else
        {
            // The lease of one that was killed would be waited for.
            Assert.Equal(0, await installation.Controller.StopAsync());
        }
        Directory.Delete(installation.Repository, recursive: true);
        Directory.Delete(installation.Home, recursive: true);
        await installation.RebuildControllerAsync(place);
        await installation.Controller.StartAsync();
        Assert.Equal([points[1], points[0]], await installation.ListPointsAsync());
        var anew = await installation.EnrollAsync("anew");
        anew.Add("m", machine, new InstalledImage(image, LabDiskFormat.Raw, "disk"));
        await anew.Service.StartAsync();
        await installation.WaitForMachineAsync("m");
        for (var i = 0; i < points.Count; i++)
        {
            var restored = await installation.RestoreDisksAsync(points[i], $"restored-{i}");
            Assert.Equal(contents[i], await File.ReadAllBytesAsync(restored["disk"], TestContext.Current.CancellationToken));
        }
        Assert.Equal(0, (await installation.RunAsync("repository", "verify", "--full")).Json.GetProperty("result").GetProperty("verify").GetProperty("damages_total").GetInt32());
        // Its locks came along, and its history goes on.
        Outcomes.AssertOneError(await installation.RunAsync("recovery-point", "forget", points[0]), 4, "locked until");
        var third = Outcomes.PointOf(await installation.BackUpAsync("m"));
        var last = await installation.RestoreDisksAsync(third, "restored-last");
        Assert.Equal(contents[1], await File.ReadAllBytesAsync(last["disk"], TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task What_is_not_so_is_told_in_one_sentence()
    {
        using var disks = new LabDirectory();
        var image = await Disks.WriteRandomAsync(disks.File("disk.raw"), 1 << 20);
        var (installation, _) = await Installation.StartAsync((_, agent) => agent.Add("m", Guid.NewGuid(), new InstalledImage(image, LabDiskFormat.Raw, "disk")));
        await using var _ = installation;
        await installation.WaitForMachineAsync("m");
        (await installation.RunAsync("store", "add", "second", "--location", installation.File("second"))).EnsureSuccess();
        await installation.BackUpAsync("m");
        (await installation.RunAsync("copies", "set", "away", "--machines", "m", "--offsite", "1")).EnsureSuccess();
        await WaitForCopiesAsync(installation, 1);
        Assert.Equal(0, (await installation.RunAsync("copies", "status")).ExitCode);
        Assert.Equal("0 of 1 off-site copy", (await StatusAsync(installation)).GetProperty("reasons")[0].GetString());
        Outcomes.AssertOneError(await installation.RunAsync("copies", "status", "nothing"), 5, "no copy policy");
        Outcomes.AssertOneError(await installation.RunAsync("store", "show", "nothing"), 5, "no copy store");
        Outcomes.AssertOneError(await installation.RunAsync("store", "add", "x", "--location", "relative/path"), 2, "absolute path");
        Outcomes.AssertOneError(await installation.RunAsync("store", "add", "x", "--location", installation.Repository), 4, "own place");
    }

    private static async Task<JsonElement> StatusAsync(Installation installation) =>
        Assert.Single((await installation.RunAsync("copies", "status")).Json.GetProperty("machines").EnumerateArray());

    private static Task WaitForCopiesAsync(Installation installation, int points) => Installation.PollAsync($"the copy of {points} recovery points", async () =>
    {
        var store = (await installation.RunAsync("store", "show", "second")).EnsureSuccess().Json;
        return store.GetProperty("open").GetBoolean() && store.GetProperty("points").GetInt32() == points && store.GetProperty("points_missing").GetInt32() == 0 && !store.GetProperty("running").GetBoolean();
    });
}
