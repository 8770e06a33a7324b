using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>Damage in the repository, from its discovery to its end, as operators see it.</summary>
public sealed class ScrubTests
{
    [Fact]
    public async Task The_next_backup_heals_what_the_disk_still_holds()
    {
        using var disks = new LabDirectory();
        var image = await Disks.WriteRandomAsync(disks.File("disk.raw"), 3 << 20);
        var (installation, _) = await Installation.StartAsync((_, agent) =>
        {
            // The chunks are counted below.
            agent.Chunks = "fixed-256K";
            agent.Add("m", Guid.NewGuid(), new InstalledImage(image, LabDiskFormat.Raw, "disk"));
        });
        await using var _ = installation;
        await installation.WaitForMachineAsync("m");
        var point = Outcomes.PointOf(await installation.BackUpAsync("m"));
        Assert.Equal(0, (await ScrubAsync(installation)).GetProperty("damages_total").GetInt32());
        var pack = Directory.EnumerateFiles(Path.Combine(installation.Repository, "packs"), "*", SearchOption.AllDirectories).MaxBy(static file => new FileInfo(file).Length)!;
        FlipByte(pack, 1_000_000);

        var scrub = await ScrubAsync(installation, exitCode: 6);
        var finding = Assert.Single(scrub.GetProperty("findings").EnumerateArray());
        Assert.Equal((1, 11), (finding.GetProperty("records_lost").GetInt32(), finding.GetProperty("records_saved").GetInt32()));
        var damage = await installation.RunAsync("repository", "damage", "list");
        Assert.Equal(6, damage.ExitCode);
        var range = Assert.Single(Assert.Single(damage.AnyJson.GetProperty("damages").EnumerateArray()).GetProperty("ranges").EnumerateArray());
        Assert.Equal((point, 256 << 10), (range.GetProperty("point_id").GetString(), range.GetProperty("length").GetInt32()));
        Assert.Equal(1, (await installation.RunAsync("repository", "status")).Json.GetProperty("proof").GetProperty("points_damaged").GetInt32());
        var shown = (await installation.RunAsync("recovery-point", "show", point)).Json;
        Assert.True(shown.GetProperty("damaged").GetBoolean());
        Assert.True(System.Text.Json.JsonElement.DeepEquals(range, Assert.Single(shown.GetProperty("damaged_ranges").EnumerateArray())));
        var verified = await installation.RunAsync("recovery-point", "verify", point);
        Assert.Equal(6, verified.ExitCode);

        Assert.Equal(3 << 20, Outcomes.ReadBytesOf(await installation.BackUpAsync("m")));
        Assert.Equal(0, (await ScrubAsync(installation)).GetProperty("damages_total").GetInt32());
        Assert.Empty((await installation.RunAsync("repository", "damage", "list")).Json.GetProperty("damages").EnumerateArray());
        Assert.Single((await installation.RunAsync("repository", "damage", "list", "--all")).Json.GetProperty("damages").EnumerateArray());
        (await installation.RunAsync("recovery-point", "verify", point)).EnsureSuccess();
        var restored = await installation.RestoreDisksAsync(point, "restored");
        Assert.Equal(await File.ReadAllBytesAsync(image, TestContext.Current.CancellationToken), await File.ReadAllBytesAsync(Assert.Single(restored).Value, TestContext.Current.CancellationToken));
    }

    private static async Task<System.Text.Json.JsonElement> ScrubAsync(Installation installation, int exitCode = 0)
    {
        var result = await installation.RunAsync("repository", "scrub");
        Assert.True(result.ExitCode == exitCode, $"exit code {result.ExitCode}: {result.Stdout}{result.Stderr}");
        return result.AnyJson.GetProperty("result").GetProperty("scrub");
    }

    private static void FlipByte(string path, long offset)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.ReadWrite);
        file.Position = offset;
        var value = file.ReadByte();
        file.Position = offset;
        file.WriteByte((byte)(value ^ 1));
    }
}
