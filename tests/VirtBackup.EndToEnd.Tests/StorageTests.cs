using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>Trouble with the disks that recovery points are written to.</summary>
public sealed class StorageTests
{
    [Fact]
    public async Task A_full_repository_and_a_full_restore_target_are_told_and_recovered_from()
    {
        await using var small = await SmallFolder.MountAsync(mebibytes: 20);
        await using var target = await SmallFolder.MountAsync(mebibytes: 12);
        using var disks = new LabDirectory();
        var image = await Disks.WriteRandomAsync(disks.File("disk.raw"), 48 << 20);
        var (installation, _) = await Installation.StartAsync(
            (_, agent) => agent.Add("m", Guid.NewGuid(), new InstalledImage(image, LabDiskFormat.Raw, "disk")), repository: Path.Combine(small.Path, "r"));
        await using var _ = installation;
        await installation.WaitForMachineAsync("m");

        Outcomes.AssertOneError(await installation.RunAsync("backup", "run", "m"), 1, "space", small.Path);
        Assert.Empty(await installation.ListPointsAsync());
        await small.ResizeAsync(mebibytes: 160);
        var point = Outcomes.PointOf(await installation.BackUpAsync("m"));
        Assert.Equal(0, (await installation.RunAsync("repository", "verify", "--full")).Json.GetProperty("result").GetProperty("verify").GetProperty("damages_total").GetInt32());

        var folder = Path.Combine(target.Path, "restored");
        Outcomes.AssertOneError(await installation.RunAsync("restore", "run", point, "--folder", folder), 1, folder, "free");
        Assert.False(Directory.Exists(folder));

        var restored = await installation.RestoreDisksAsync(point, "fits");
        Assert.Equal(await File.ReadAllBytesAsync(image), await File.ReadAllBytesAsync(restored["disk"]));
    }

    [Fact]
    public async Task A_second_controller_on_a_repository_is_refused_and_does_not_disturb_the_first()
    {
        using var disks = new LabDirectory();
        var image = await Disks.WriteRandomAsync(disks.File("disk.raw"), 5 << 20);
        var (installation, _) = await Installation.StartAsync((_, agent) => agent.Add("m", Guid.NewGuid(), new InstalledImage(image, LabDiskFormat.Raw, "disk")));
        await using var _ = installation;
        await installation.WaitForMachineAsync("m");

        var copy = installation.File("copy");
        await Proc.CheckAsync("cp", ["-a", installation.Home, copy]);
        foreach (var home in new[] { installation.Home, copy })
        {
            await using var second = installation.Daemon(home);
            second.Launch();
            Assert.NotEqual(0, await second.WaitForExitAsync());
            Assert.Single(second.Log.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        }
        var point = Outcomes.PointOf(await installation.BackUpAsync("m"));
        var restored = await installation.RestoreDisksAsync(point, "restored");
        Assert.Equal(await File.ReadAllBytesAsync(image), await File.ReadAllBytesAsync(restored["disk"]));
    }
}
