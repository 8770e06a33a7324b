using System.Security.Cryptography;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>Powered-off machines.</summary>
public sealed class ImageTests
{
    private const int OddBytes = (6 << 20) + 777;
    private const int ChainBytes = 8 << 20;

    [Fact]
    public async Task Raw_and_qcow2_images_are_restored_equal_from_full_backups_and_from_told_changes()
    {
        using var disks = new LabDirectory();
        var odd = await Disks.WriteRandomAsync(disks.File("odd.raw"), OddBytes);
        await LabDisk.CreateRandomAsync(disks.File("base.raw"), LabDiskFormat.Raw, ChainBytes, seed: 3);
        var chain = disks.File("chain.qcow2");
        await Proc.CheckAsync("qemu-img", ["create", "-q", "-f", "qcow2", "-b", disks.File("base.raw"), "-F", "raw", chain]);
        await Proc.CheckAsync("qemu-io", ["-f", "qcow2", "-c", "write -P 0x21 1M 300k", chain]);

        var (installation, _) = await Installation.StartAsync((_, agent) => agent.Add(
            "archive", Guid.NewGuid(), new InstalledImage(odd, LabDiskFormat.Raw, "odd"), new InstalledImage(chain, LabDiskFormat.Qcow2, "chain")));
        await using var _ = installation;
        await installation.WaitForMachineAsync("archive");

        var first = await installation.BackUpAsync("archive");
        var firstOdd = await File.ReadAllBytesAsync(odd);
        var firstChain = await LabDisk.Sha256Async(chain, LabDiskFormat.Qcow2);

        // The odd end of the raw disk changes, and a range that neither begins nor ends with a chunk.
        await using (var file = File.OpenWrite(odd))
        {
            file.Position = 700_001;
            await file.WriteAsync(RandomNumberGenerator.GetBytes(300_000));
            file.Position = OddBytes - 100;
            await file.WriteAsync(RandomNumberGenerator.GetBytes(100));
        }
        await Proc.CheckAsync("qemu-io", ["-f", "qcow2", "-c", "write -P 0x42 5M 64k", chain]);
        await File.WriteAllTextAsync(disks.File("odd.txt"), $"700001 300000\n{OddBytes - 100} 100\n");
        await File.WriteAllTextAsync(disks.File("chain.txt"), $"{5 << 20} {64 << 10}\n");
        var second = await installation.BackUpAsync(
            "archive", "--changed-extents", $"odd={disks.File("odd.txt")}", "--changed-extents", $"chain={disks.File("chain.txt")}");
        Assert.InRange(Outcomes.ReadBytesOf(second), 364_100, 4 << 20);

        await AssertRestoredAsync(installation, second, "new", await File.ReadAllBytesAsync(odd), await LabDisk.Sha256Async(chain, LabDiskFormat.Qcow2));
        await AssertRestoredAsync(installation, first, "old", firstOdd, firstChain);
    }

    private static async Task AssertRestoredAsync(Installation installation, System.Text.Json.JsonElement point, string folder, byte[] odd, string chain)
    {
        var restored = await installation.RestoreDisksAsync(Outcomes.PointOf(point), folder);
        Assert.Equal(odd, await File.ReadAllBytesAsync(restored["odd"]));
        Assert.Equal(chain, await LabDisk.Sha256Async(restored["chain"], LabDiskFormat.Qcow2));
    }

    [Fact]
    public async Task A_link_is_followed_to_the_image()
    {
        using var disks = new LabDirectory();
        var image = await Disks.WriteRandomAsync(disks.File("image.raw"), OddBytes);
        File.CreateSymbolicLink(disks.File("near.raw"), "image.raw");
        File.CreateSymbolicLink(disks.File("far.raw"), disks.File("near.raw"));
        var (installation, _) = await Installation.StartAsync((_, agent) => agent.Add("m", Guid.NewGuid(), new InstalledImage(disks.File("far.raw"), LabDiskFormat.Raw, "disk")));
        await using var _ = installation;
        await installation.WaitForMachineAsync("m");
        var restored = await installation.RestoreDisksAsync(Outcomes.PointOf(await installation.BackUpAsync("m")), "restored");
        Assert.Equal(await File.ReadAllBytesAsync(image), await File.ReadAllBytesAsync(restored["disk"]));
    }

    [Fact]
    public async Task Images_that_cannot_be_read_end_a_backup_with_one_error_and_no_point()
    {
        using var disks = new LabDirectory();
        var missing = disks.File("missing.raw");
        var false_ = await Disks.WriteRandomAsync(disks.File("false.qcow2"), 1 << 20);
        var shrinking = await Disks.WriteRandomAsync(disks.File("shrinking.raw"), 24 << 20);
        var (installation, agent) = await Installation.StartAsync((_, agent) =>
        {
            agent.Add("none", Guid.NewGuid(), new InstalledImage(missing, LabDiskFormat.Raw, "disk"));
            agent.Add("false", Guid.NewGuid(), new InstalledImage(false_, LabDiskFormat.Qcow2, "disk"));
            agent.Add("short", Guid.NewGuid(), new InstalledImage(shrinking, LabDiskFormat.Raw, "disk"));
        });
        await using var _ = installation;
        await installation.WaitForMachineAsync("short");

        Outcomes.AssertOneError(await installation.RunAsync("backup", "run", "none"), 1, missing, "does not exist");
        Outcomes.AssertOneError(await installation.RunAsync("backup", "run", "false"), 1, false_, "qcow2");
        var job = await installation.BeginBackUpAsync("short", "reading", "--rate-limit", "4MiB");
        await Proc.CheckAsync("truncate", ["-s", "20M", shrinking]);
        Outcomes.AssertOneError(await installation.FollowAsync(job), 1, shrinking);
        Assert.Empty(await installation.ListPointsAsync());

        // The image as it is now can be backed up; nothing of the broken run stands in the way.
        var point = await installation.BackUpAsync("short");
        var restored = await installation.RestoreDisksAsync(Outcomes.PointOf(point), "short");
        Assert.Equal(await File.ReadAllBytesAsync(shrinking), await File.ReadAllBytesAsync(restored["disk"]));

        var configuration = await File.ReadAllTextAsync(agent.Configuration);
        await agent.Service.StopAsync();
        await File.WriteAllTextAsync(agent.Configuration, configuration.Replace("format: qcow2", "format: vmdk", StringComparison.Ordinal));
        agent.Service.Launch();
        Assert.Equal(2, await agent.Service.WaitForExitAsync());
        Assert.Contains("machine false: every disk needs an absolute path and a format (raw or qcow2)", agent.Service.Log, StringComparison.Ordinal);
    }
}
