using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>What can be thrown away, and what it takes to come back.</summary>
public sealed class DisasterTests
{
    [Fact]
    public async Task Points_survive_the_loss_of_catalog_index_and_controller()
    {
        using var disks = new LabDirectory();
        var image = await Disks.WriteRandomAsync(disks.File("disk.raw"), 9 << 20);
        var content = await File.ReadAllBytesAsync(image);
        var machine = Guid.NewGuid();
        var (installation, agent) = await Installation.StartAsync((_, agent) => agent.Add("m", machine, new InstalledImage(image, LabDiskFormat.Raw, "disk")));
        await using var _ = installation;
        await installation.WaitForMachineAsync("m");
        var first = Outcomes.PointOf(await installation.BackUpAsync("m"));
        await Disks.WriteRandomAsync(image, content.Length);
        var second = Outcomes.PointOf(await installation.BackUpAsync("m"));

        // Forgotten points are gone from the list, refuse to be restored, and come back.
        (await installation.RunAsync("recovery-point", "forget", first)).EnsureSuccess();
        Assert.Equal([second], await installation.ListPointsAsync());
        Outcomes.AssertOneError(await installation.RunAsync("restore", "run", first, "--folder", installation.File("forgotten")), 4);
        (await installation.RunAsync("recovery-point", "forget", first, "--undo")).EnsureSuccess();
        Assert.Equal([second, first], await installation.ListPointsAsync());

        // The catalog: points come back from the repository; who was enrolled has to be told anew.
        await agent.Service.StopAsync();
        await installation.Controller.StopAsync();
        DeleteDatabase(installation, "catalog.db");
        await installation.Controller.StartAsync();
        Assert.Equal([second, first], await installation.ListPointsAsync());

        // The index: rebuilt from the packs at start.
        await installation.Controller.StopAsync();
        DeleteDatabase(installation, "index.db");
        await installation.Controller.StartAsync();
        var again = await installation.EnrollAsync("again");
        again.Add("m", machine, new InstalledImage(image, LabDiskFormat.Raw, "disk"));
        await again.Service.StartAsync();
        await installation.WaitForMachineAsync("m");
        await AssertRestoredAsync(installation, first, content, "indexed");

        // The controller's machine: only repository and kit are left.
        await again.Service.StopAsync();
        await installation.Controller.StopAsync();
        await installation.RebuildControllerAsync();
        Directory.Delete(installation.File("controller"), recursive: true);
        await installation.Controller.StartAsync();
        var anew = await installation.EnrollAsync("anew");
        anew.Add("m", machine, new InstalledImage(image, LabDiskFormat.Raw, "disk"));
        await anew.Service.StartAsync();
        await installation.WaitForMachineAsync("m");
        Assert.Equal([second, first], await installation.ListPointsAsync());
        await AssertRestoredAsync(installation, first, content, "rebuilt");
        Assert.Equal(0, (await installation.RunAsync("repository", "verify", "--full")).Json.GetProperty("result").GetProperty("verify").GetProperty("damages_total").GetInt32());

        // The new agent's history goes on in the same repository.
        var third = Outcomes.PointOf(await installation.BackUpAsync("m"));
        await AssertRestoredAsync(installation, third, await File.ReadAllBytesAsync(image), "third");
    }

    [Fact]
    public async Task A_lost_repository_is_replaced_by_an_empty_one_for_the_same_agents()
    {
        using var disks = new LabDirectory();
        var image = await Disks.WriteRandomAsync(disks.File("disk.raw"), 5 << 20);
        var (installation, _) = await Installation.StartAsync((_, agent) =>
        {
            // The chunks are counted below.
            agent.Chunks = "fixed-256K";
            agent.Add("m", Guid.NewGuid(), new InstalledImage(image, LabDiskFormat.Raw, "disk"));
        });
        await using var _ = installation;
        await installation.WaitForMachineAsync("m");
        await installation.BackUpAsync("m");
        await installation.Controller.StopAsync();
        Directory.Delete(installation.Repository, recursive: true);
        Outcomes.AssertOneError(await installation.RunAsync("repository", "verify", "--data", installation.Home), 5);
        (await installation.RunAsync("repository", "init", "--data", installation.Home, "--repository", installation.File("second"), "--kit", installation.File("kit-2"))).EnsureSuccess();
        await installation.Controller.StartAsync();
        Assert.Empty(await installation.ListPointsAsync());

        // The agent that never stopped starts anew there: all is read, signed by a key that the new repository knows.
        await installation.WaitForMachineAsync("m");
        var point = Outcomes.PointOf(await installation.BackUpAsync("m"));
        await AssertRestoredAsync(installation, point, await File.ReadAllBytesAsync(image), "second-restored");
        foreach (var verb in new[] { new[] { "repository", "verify", "--full" }, ["recovery-point", "verify", point, "--full"] })
        {
            var verified = (await installation.RunAsync(verb)).Json.GetProperty("result").GetProperty("verify");
            Assert.Equal((0, 20), (verified.GetProperty("damages_total").GetInt32(), verified.GetProperty("records").GetInt32()));
        }
    }

    private static async Task AssertRestoredAsync(Installation installation, string point, byte[] content, string folder)
    {
        var restored = await installation.RestoreDisksAsync(point, folder);
        Assert.Equal(content, await File.ReadAllBytesAsync(restored["disk"]));
    }

    private static void DeleteDatabase(Installation installation, string name)
    {
        var files = Directory.GetFiles(installation.Home, name + "*");
        Assert.NotEmpty(files);
        foreach (var file in files) File.Delete(file);
    }
}
