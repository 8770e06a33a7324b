using VirtBackup.Testing.Lab;

namespace VirtBackup.Lab.Tests;

/// <summary>Images are made, read by a guest and compared as the other tests and proofs rely on.</summary>
public sealed class DiskTests
{
    private const int Size = 8 << 20;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(LabDiskFormat.Raw)]
    [InlineData(LabDiskFormat.Qcow2)]
    public async Task Random_content_depends_on_the_seed_alone(LabDiskFormat format)
    {
        using var directory = new LabDirectory();
        var (one, same, other) = (directory.File("one"), directory.File("same"), directory.File("other"));
        await LabDisk.CreateRandomAsync(one, format, Size, seed: 1, Token);
        await LabDisk.CreateRandomAsync(same, LabDiskFormat.Raw, Size, seed: 1, Token);
        await LabDisk.CreateRandomAsync(other, format, Size, seed: 2, Token);

        Assert.Equal(await LabDisk.Sha256Async(same, LabDiskFormat.Raw, cancellationToken: Token), await LabDisk.Sha256Async(one, format, cancellationToken: Token));
        Assert.True(await LabDisk.ContentEqualsAsync(one, format, same, LabDiskFormat.Raw, cancellationToken: Token));
        Assert.False(await LabDisk.ContentEqualsAsync(one, format, other, format, cancellationToken: Token));
        await Assert.ThrowsAsync<LabException>(() => LabDisk.ContentEqualsAsync(one, format, directory.File("none"), format, cancellationToken: Token));
    }

    [Fact]
    public async Task One_changed_byte_is_a_difference()
    {
        using var directory = new LabDirectory();
        var (one, two) = (directory.File("one"), directory.File("two"));
        await LabDisk.CreateRandomAsync(one, LabDiskFormat.Raw, Size, seed: 3, Token);
        File.Copy(one, two);
        await using (var file = File.Open(two, FileMode.Open))
        {
            file.Position = Size - 1;
            var last = file.ReadByte();
            file.Position = Size - 1;
            file.WriteByte((byte)(last ^ 1));
        }
        Assert.False(await LabDisk.ContentEqualsAsync(one, LabDiskFormat.Raw, two, LabDiskFormat.Raw, cancellationToken: Token));
    }

    [Fact]
    public async Task The_guest_and_the_host_see_the_same_bytes_of_a_disk()
    {
        var guest = await LabGuest.GetAsync(Token);
        using var directory = new LabDirectory();
        var image = directory.File("extra.raw");
        await LabDisk.CreateRandomAsync(image, LabDiskFormat.Raw, Size, seed: 4, Token);
        var options = new LabVmOptions
        {
            ExtraDisks = [new() { NodeName = "extra", Format = LabDiskFormat.Raw, UseInPlace = image, Serial = "extra-disk" }],
        };
        await using var vm = await LabVm.BootAsync(options, Token);

        var seen = (await vm.ExecAsync("sha256sum < /dev/vdc; cat /sys/block/vdc/serial", cancellationToken: Token)).EnsureSuccess();
        Assert.Equal($"{await LabDisk.Sha256Async(image, LabDiskFormat.Raw, cancellationToken: Token)}  -\nextra-disk", seen.Trim());

        // A write by the guest changes its data disk and nothing else; equal content in another format is equal.
        (await vm.ExecAsync("head -c 1000000 /dev/urandom > /data/new && sync", cancellationToken: Token)).EnsureSuccess();
        await vm.QuitAsync(Token);
        var data = vm.Disk("data");
        Assert.False(await LabDisk.ContentEqualsAsync(data.Path, data.Format, guest.DataDisk, LabDiskFormat.Qcow2, cancellationToken: Token));
        var raw = directory.File("data.raw");
        await LabDisk.ConvertAsync(data.Path, data.Format, raw, LabDiskFormat.Raw, cancellationToken: Token);
        Assert.True(await LabDisk.ContentEqualsAsync(data.Path, data.Format, raw, LabDiskFormat.Raw, cancellationToken: Token));
    }
}
