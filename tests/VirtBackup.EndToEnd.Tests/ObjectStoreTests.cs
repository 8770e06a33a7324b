using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>
/// The repository is at a provider, for every command that opens it. Azurite stands for all: it is there in a second; Ceph
/// has its turn in the proof object-store.sh.
/// </summary>
public sealed class ObjectStoreTests
{
    [Fact]
    public async Task A_repository_at_a_provider_does_what_a_folder_does()
    {
        await using var server = await LabObjectServer.StartAzuriteAsync();
        server.UseCredentials();
        using var disks = new LabDirectory();
        var image = await Disks.WriteRandomAsync(disks.File("disk.raw"), (5 << 20) + 1234);
        var content = await File.ReadAllBytesAsync(image, TestContext.Current.CancellationToken);
        var place = server.LocationOf("site/one");
        var (installation, _) = await Installation.StartAsync((_, agent) => agent.Add("m", Guid.NewGuid(), new InstalledImage(image, LabDiskFormat.Raw, "disk")), place);
        await using var _ = installation;
        await installation.WaitForMachineAsync("m");

        var point = Outcomes.PointOf(await installation.BackUpAsync("m"));
        var restored = await installation.RestoreDisksAsync(point, "restored");
        Assert.Equal(content, await File.ReadAllBytesAsync(restored["disk"], TestContext.Current.CancellationToken));

        // The provider's budget, as the controller counts it.
        var status = (await installation.RunAsync("repository", "status")).EnsureSuccess().Json;
        Assert.Equal(place, status.GetProperty("location").GetString());
        var traffic = status.GetProperty("traffic");
        Assert.True(traffic.GetProperty("bytes_sent").GetInt64() >= content.Length);
        Assert.InRange(traffic.GetProperty("requests").GetInt64(), 10, 200);
        Assert.Contains($"While recovery point {point} was made, the store was asked", installation.Controller.Log, StringComparison.Ordinal);

        // Its lease outlives a killed controller, and does not keep out the next one.
        await installation.Controller.KillAsync();
        await installation.Controller.StartAsync();
        await installation.WaitForMachineAsync("m");

        // Past the controller, which runs on.
        var looked = (await installation.RunAsync("repository", "status", "--repository", place)).EnsureSuccess().Json;
        Assert.Equal(status.GetProperty("repository_id").GetString(), looked.GetProperty("repository_id").GetString());
        Assert.Equal(1, looked.GetProperty("recovery_points").GetInt64());
        var extracted = (await installation.RunAsync("repository", "extract", point, "--folder", disks.File("out"), "--repository", place, "--kit", installation.Kit)).EnsureSuccess().Json;
        Assert.Equal(content, await File.ReadAllBytesAsync(extracted.GetProperty("disks")[0].GetProperty("path").GetString()!, TestContext.Current.CancellationToken));

        // In place of the stopped controller, and on another machine from the kit.
        Assert.Equal(0, await installation.Controller.StopAsync());
        (await installation.RunAsync("repository", "verify", "--full", "--data", installation.Home)).EnsureSuccess();
        (await installation.RunAsync("repository", "rebuild-index", "--data", installation.Home)).EnsureSuccess();
        await installation.RebuildControllerAsync();
        await installation.Controller.StartAsync();
        Assert.Equal([point], await installation.ListPointsAsync());
        Assert.Empty(Directory.GetFiles(Path.Combine(installation.Home, "spool"), "*.spool"));
    }

    [Fact]
    public async Task Places_that_cannot_be_used_are_refused_in_one_sentence()
    {
        await using var server = await LabObjectServer.StartAzuriteAsync();
        server.UseCredentials();
        await using var installation = await Installation.CreateAsync(server.LocationOf("taken"));
        string[] init = ["controller", "init", "--data", installation.File("second"), "--operator-credentials", installation.File("second-operator"), "--server-name", "localhost"];
        Outcomes.AssertOneError(await installation.RunAsync([.. init, "--repository", installation.Repository]), 4, "is not empty");
        Outcomes.AssertOneError(await installation.RunAsync([.. init, "--repository", server.LocationOf("x").Replace("/virtbackup/", "/nowhere/", StringComparison.Ordinal)]), 3, "no container 'nowhere'");
        Outcomes.AssertOneError(await installation.RunAsync([.. init, "--repository", "s3://bucket/prefix?colour=blue"]), 2, "'colour=blue' is not one of");
        Outcomes.AssertOneError(await installation.RunAsync([.. init, "--repository", "ftp://bucket"]), 2, "no place for a repository");
        Assert.False(Directory.Exists(installation.File("second")));
        // What failed late has left nothing at the provider.
        var fresh = server.LocationOf("fresh");
        await File.WriteAllTextAsync(installation.File("kit-is-there"), "x", TestContext.Current.CancellationToken);
        Assert.NotEqual(0, (await installation.RunAsync([.. init, "--repository", fresh, "--kit", installation.File("kit-is-there")])).ExitCode);
        (await installation.RunAsync([.. init, "--repository", fresh, "--kit", installation.File("kit-2")])).EnsureSuccess();
    }
}
