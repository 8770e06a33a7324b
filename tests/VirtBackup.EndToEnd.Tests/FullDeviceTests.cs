using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>Devices that fill up while work is under way, on either side.</summary>
public sealed class FullDeviceTests
{
    [Fact]
    public async Task A_restore_whose_target_fills_up_midway_ends_with_one_error_and_removes_what_it_wrote()
    {
        await using var target = await SmallFolder.MountAsync(mebibytes: 140);
        using var disks = new LabDirectory();
        var image = await Disks.WriteRandomAsync(disks.File("disk.raw"), 96 << 20);
        var (installation, agent) = await Installation.StartAsync((_, agent) => agent.Add("m", Guid.NewGuid(), new InstalledImage(image, LabDiskFormat.Raw, "disk")));
        await using var _ = installation;
        await installation.WaitForMachineAsync("m");
        var point = Outcomes.PointOf(await installation.BackUpAsync("m"));

        foreach (var format in new[] { "raw", "qcow2" })
        {
            var folder = Path.Combine(target.Path, format);
            var partial = Path.Combine(folder, $"disk.{format}.partial");
            var restoring = installation.RunAsync("restore", "run", point, "--folder", folder, "--name", "m", "--format", format);
            // The check of the space has passed; what the controller has not sent yet will find no room.
            await Installation.PollAsync(partial, () => Task.FromResult(File.Exists(partial)));
            await installation.Controller.FreezeAsync();
            target.Fill();
            await installation.Controller.ThawAsync();
            Outcomes.AssertOneError(await restoring, 1, "no space left", partial[..^".partial".Length]);
            Assert.False(Directory.Exists(folder));
            target.Relieve();
        }

        Assert.True(agent.Service.IsRunning);
        var restored = await installation.RestoreDisksAsync(point, "elsewhere");
        Assert.Equal(await LabDisk.Sha256Async(image, LabDiskFormat.Raw), await LabDisk.Sha256Async(restored["disk"], LabDiskFormat.Raw));
    }

    [Fact]
    public async Task A_repository_that_fills_up_midway_fails_the_backup_only_and_takes_the_next_one()
    {
        await using var small = await SmallFolder.MountAsync(mebibytes: 64);
        using var disks = new LabDirectory();
        var image = await Disks.WriteRandomAsync(disks.File("disk.raw"), 40 << 20);
        var (installation, _) = await Installation.StartAsync(
            (_, agent) => agent.Add("m", Guid.NewGuid(), new InstalledImage(image, LabDiskFormat.Raw, "disk")), repository: Path.Combine(small.Path, "r"));
        await using var _ = installation;
        await installation.WaitForMachineAsync("m");

        var job = await installation.BeginBackUpAsync("m", "reading", "--rate-limit", "16MiB");
        small.Fill();
        Outcomes.AssertOneError(await installation.FollowAsync(job), 1, "space", small.Path);
        Assert.Empty(await installation.ListPointsAsync());
        Assert.DoesNotContain(Directory.EnumerateFiles(Path.Combine(small.Path, "r"), "*", SearchOption.AllDirectories), static file => file.EndsWith(".tmp", StringComparison.Ordinal));

        small.Relieve();
        var point = Outcomes.PointOf(await installation.BackUpAsync("m"));
        Assert.Equal(0, (await installation.RunAsync("repository", "verify", "--full")).Json.GetProperty("result").GetProperty("verify").GetProperty("damages_total").GetInt32());
        var restored = await installation.RestoreDisksAsync(point, "restored");
        Assert.Equal(await LabDisk.Sha256Async(image, LabDiskFormat.Raw), await LabDisk.Sha256Async(restored["disk"], LabDiskFormat.Raw));

        // What backups may not fill is enough for getting out of it.
        await Disks.WriteRandomAsync(image, 40 << 20);
        Outcomes.AssertOneError(await installation.RunAsync("backup", "run", "m"), 1, "recovery-point forget");
        Assert.Equal(0, (await installation.RunAsync("recovery-point", "forget", point)).ExitCode);
        Assert.Equal(0, (await installation.RunAsync("repository", "gc")).ExitCode);
        Assert.Empty(await installation.ListPointsAsync());
    }

    [Fact]
    public async Task A_full_device_under_the_databases_is_told_and_forgiven_without_a_restart()
    {
        await using var small = await SmallFolder.MountAsync(mebibytes: 24);
        using var disks = new LabDirectory();
        var image = await Disks.WriteRandomAsync(disks.File("disk.raw"), 24 << 20);
        var (installation, agent) = await Installation.StartAsync(
            (_, agent) => agent.Add("m", Guid.NewGuid(), new InstalledImage(image, LabDiskFormat.Raw, "disk")), home: Path.Combine(small.Path, "controller"));
        await using var _ = installation;
        await installation.WaitForMachineAsync("m");
        var first = Outcomes.PointOf(await installation.BackUpAsync("m"));

        // Before anything begins.
        small.Fill();
        Outcomes.AssertOneError(await installation.RunAsync("backup", "run", "m"), 1, "catalog.db", "full");
        small.Relieve();
        Assert.Equal([first], await installation.ListPointsAsync());

        // While a backup is under way, for long enough to be noticed by every part.
        await Disks.WriteRandomAsync(image, 24 << 20);
        var job = await installation.BeginBackUpAsync("m", "reading", "--rate-limit", "4MiB");
        small.Fill();
        await Task.Delay(TimeSpan.FromSeconds(4), TestContext.Current.CancellationToken);
        small.Relieve();
        var outcome = await installation.FollowAsync(job);
        if (outcome.ExitCode != 0) Outcomes.AssertOneError(outcome, 1, ".db", "full");

        var last = Outcomes.PointOf(await installation.BackUpAsync("m"));
        var restored = await installation.RestoreDisksAsync(last, "restored");
        Assert.Equal(await LabDisk.Sha256Async(image, LabDiskFormat.Raw), await LabDisk.Sha256Async(restored["disk"], LabDiskFormat.Raw));
        Assert.Equal(0, (await installation.RunAsync("repository", "verify", "--full")).Json.GetProperty("result").GetProperty("verify").GetProperty("damages_total").GetInt32());
        Assert.True(installation.Controller.IsRunning && agent.Service.IsRunning);
    }
}
