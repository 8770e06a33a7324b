using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>Nothing is left but the repository's folder and the recovery kit.</summary>
public sealed class ExtractionTests
{
    [Fact]
    public async Task Disks_come_out_of_the_folder_with_the_kit_alone()
    {
        using var disks = new LabDirectory();
        var image = await Disks.WriteRandomAsync(disks.File("disk.raw"), (5 << 20) + 1234);
        var first = await File.ReadAllBytesAsync(image, TestContext.Current.CancellationToken);
        var (installation, _) = await Installation.StartAsync((_, agent) => agent.Add("m", Guid.NewGuid(), new InstalledImage(image, LabDiskFormat.Raw, "disk")));
        await using var _ = installation;
        await installation.WaitForMachineAsync("m");
        var one = Outcomes.PointOf(await installation.BackUpAsync("m"));
        using (var file = File.OpenWrite(image))
        {
            file.Position = 3 << 20;
            file.Write(new byte[300_000]);
        }
        var second = await File.ReadAllBytesAsync(image, TestContext.Current.CancellationToken);
        var two = Outcomes.PointOf(await installation.BackUpAsync("m"));
        (await installation.RunAsync("recovery-point", "forget", one)).EnsureSuccess();
        await installation.Controller.StopAsync();
        Directory.Delete(installation.Home, recursive: true);
        string[] source = ["--repository", installation.Repository, "--kit", installation.Kit];
        var before = Directory.EnumerateFiles(installation.Repository, "*", SearchOption.AllDirectories).Order().ToList();

        var listed = (await installation.RunAsync(["repository", "extract", .. source])).EnsureSuccess().Json.GetProperty("recovery_points").EnumerateArray().ToList();
        Assert.Equal([(one, true), (two, false)], listed.Select(static point => (point.GetProperty("point_id").GetString()!, point.GetProperty("forgotten").GetBoolean())));
        foreach (var (point, content) in new[] { (one, first), (two, second) })
        {
            var folder = disks.File(point);
            var result = (await installation.RunAsync(["repository", "extract", point[..16], "--folder", folder, .. source])).EnsureSuccess().Json;
            var path = result.GetProperty("disks")[0].GetProperty("path").GetString()!;
            Assert.Equal(content, await File.ReadAllBytesAsync(path, TestContext.Current.CancellationToken));
            Assert.Equal(["disk.raw", "machine.json"], Directory.EnumerateFiles(folder).Select(Path.GetFileName).Where(static name => name != "native-configuration").Order());
        }
        Outcomes.AssertOneError(await installation.RunAsync(["repository", "extract", one, "--folder", disks.File(one), .. source]), 4, "is not empty");
        Outcomes.AssertOneError(await installation.RunAsync(["repository", "extract", "ffff", "--folder", disks.File("x"), .. source]), 5, "There is no recovery point");
        Outcomes.AssertOneError(await installation.RunAsync(["repository", "extract", one, "--folder", disks.File("x"), "--disk", "none", .. source]), 5, "has no disk 'none'");
        Assert.Equal(before, Directory.EnumerateFiles(installation.Repository, "*", SearchOption.AllDirectories).Order());

        // A flipped byte is found before anything false is written.
        var pack = Directory.EnumerateFiles(Path.Combine(installation.Repository, "packs"), "*.vbp", SearchOption.AllDirectories).MaxBy(static file => new FileInfo(file).Length)!;
        File.SetAttributes(pack, FileAttributes.Normal);
        using (var file = new FileStream(pack, FileMode.Open, FileAccess.ReadWrite))
        {
            file.Position = 1000;
            var old = file.ReadByte();
            file.Position = 1000;
            file.WriteByte((byte)(old ^ 4));
        }
        var failed = await installation.RunAsync(["repository", "extract", one, "--folder", disks.File("y"), .. source]);
        Assert.NotEqual(0, failed.ExitCode);
        Assert.Empty(Directory.EnumerateFiles(disks.File("y")));
    }
}
