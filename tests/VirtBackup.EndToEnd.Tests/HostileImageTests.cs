using System.Security.Cryptography;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>Images that are damaged, incomplete, or made to lead somewhere else.</summary>
public sealed class HostileImageTests
{
    private const int Bytes = 8 << 20;

    [Fact]
    public async Task Every_image_that_cannot_be_read_whole_is_refused_with_its_reason()
    {
        using var disks = new LabDirectory();
        var below = await Disks.WriteRandomAsync(disks.File("below.raw"), Bytes);
        var whole = disks.File("whole.qcow2");
        await LabDisk.ConvertAsync(below, LabDiskFormat.Raw, whole, LabDiskFormat.Qcow2);
        var cases = new (string Name, string[] Words)[]
        {
            ("cut", ["cut.qcow2", "cut off"]),
            ("header", ["header.qcow2", "cannot be read as qcow2"]),
            ("empty", ["empty.qcow2", "cannot be read as qcow2"]),
            ("orphan", ["orphan.qcow2", "gone.raw", "does not exist"]),
            ("guess", ["guess.qcow2", "without its format"]),
            ("remote", ["remote.qcow2", "nbd://127.0.0.1:1/x", "not a file of this host"]),
            ("vmdk", ["vmdk.qcow2", "'vmdk'"]),
            ("loop", ["loop.qcow2", "its own backing file"]),
            ("apart", ["apart.qcow2", "in another file"]),
            ("cut-below", ["cut.qcow2", "cut off"]),
        };
        string Image(string name) => disks.File($"{name}.qcow2");

        File.Copy(whole, Image("cut"));
        await Proc.CheckAsync("truncate", ["-s", "5M", Image("cut")]);
        await File.WriteAllBytesAsync(Image("header"), [0x51, 0x46, 0x49, 0xFB, .. RandomNumberGenerator.GetBytes(4096)]);
        await File.WriteAllBytesAsync(Image("empty"), []);
        await OverlayAsync(Image("orphan"), disks.File("gone.raw"), "raw");
        await OverlayAsync(Image("guess"), below, "raw");
        await RemoveBackingFormatAsync(Image("guess"));
        await OverlayAsync(Image("remote"), "nbd://127.0.0.1:1/x", "raw");
        await OverlayAsync(Image("vmdk"), below, "vmdk");
        await OverlayAsync(Image("loop"), whole, "qcow2");
        await Proc.CheckAsync("qemu-img", ["rebase", "-u", "-f", "qcow2", "-b", Image("loop"), "-F", "qcow2", Image("loop")]);
        await Proc.CheckAsync("qemu-img", ["create", "-q", "-f", "qcow2", "-o", $"data_file={disks.File("data")}", Image("apart"), "8M"]);
        await OverlayAsync(Image("cut-below"), Image("cut"), "qcow2");

        var (installation, _) = await Installation.StartAsync((_, agent) =>
        {
            foreach (var (name, _) in cases) agent.Add(name, Guid.NewGuid(), new InstalledImage(Image(name), LabDiskFormat.Qcow2, "disk"));
        });
        await using var _ = installation;
        await installation.WaitForMachineAsync(cases[^1].Name);
        foreach (var (name, words) in cases)
        {
            Outcomes.AssertOneError(await installation.RunAsync("backup", "run", name), 1, words);
        }
        Assert.Empty(await installation.ListPointsAsync());
    }

    [Fact]
    public async Task A_qcow2_image_that_is_cut_short_while_it_is_read_fails_the_backup()
    {
        using var disks = new LabDirectory();
        var raw = await Disks.WriteRandomAsync(disks.File("disk.raw"), 24 << 20);
        var image = disks.File("disk.qcow2");
        await LabDisk.ConvertAsync(raw, LabDiskFormat.Raw, image, LabDiskFormat.Qcow2);
        var (installation, _) = await Installation.StartAsync((_, agent) => agent.Add("m", Guid.NewGuid(), new InstalledImage(image, LabDiskFormat.Qcow2, "disk")));
        await using var _ = installation;
        await installation.WaitForMachineAsync("m");

        var job = await installation.BeginBackUpAsync("m", "reading", "--rate-limit", "4MiB");
        await Proc.CheckAsync("truncate", ["-s", "20M", image]);
        Outcomes.AssertOneError(await installation.FollowAsync(job), 1, image, "cut short");
        Assert.Empty(await installation.ListPointsAsync());
    }

    [Fact]
    public async Task A_raw_disk_that_a_guest_made_look_like_another_format_is_read_as_the_bytes_that_it_is()
    {
        using var disks = new LabDirectory();
        var secret = await Disks.WriteRandomAsync(disks.File("secret"), Bytes);
        // What a guest would write to the start of its disk, in the hope that the host opens what it names.
        var disk = disks.File("disk.raw");
        await OverlayAsync(disk, secret, "raw");
        var content = await File.ReadAllBytesAsync(disk);
        var (installation, _) = await Installation.StartAsync((_, agent) => agent.Add("m", Guid.NewGuid(), new InstalledImage(disk, LabDiskFormat.Raw, "disk")));
        await using var _ = installation;
        await installation.WaitForMachineAsync("m");
        var point = Outcomes.PointOf(await installation.BackUpAsync("m"));

        var raw = await installation.RestoreDisksAsync(point, "raw");
        Assert.Equal(content, await File.ReadAllBytesAsync(raw["disk"]));
        var qcow2 = await installation.RestoreDisksAsync(point, "qcow2", "--format", "qcow2");
        var back = disks.File("back.raw");
        await LabDisk.ConvertAsync(qcow2["disk"], LabDiskFormat.Qcow2, back, LabDiskFormat.Raw);
        Assert.Equal(content, (await File.ReadAllBytesAsync(back)).AsSpan(0, content.Length).ToArray());
    }

    private static Task<string> OverlayAsync(string path, string backing, string format) =>
        Proc.CheckAsync("qemu-img", ["create", "-q", "-u", "-f", "qcow2", "-b", backing, "-F", format, path, $"{Bytes}"]);

    /// <summary>As older programs left images: the header extension that has the backing file's format becomes one that nobody knows.</summary>
    private static async Task RemoveBackingFormatAsync(string path)
    {
        var image = await File.ReadAllBytesAsync(path);
        var extension = image.AsSpan().IndexOf((ReadOnlySpan<byte>)[0xE2, 0x79, 0x2A, 0xCA]);
        Assert.InRange(extension, 72, 4096);
        image[extension] = 0x01;
        await File.WriteAllBytesAsync(path, image);
    }
}
