using VirtBackup.Hypervisors.Targets;

namespace VirtBackup.Hypervisors.Tests;

public sealed class MountTableTests
{
    private const string Table = """
        22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
        30 22 0:25 / /srv rw - xfs /dev/sdb1 rw
        31 22 0:26 / /srv/my\040pool rw,noatime shared:5 master:2 - nfs4 host:/export rw
        32 22 0:27 / /srv rw - tmpfs tmpfs rw
        broken line
        """;

    [Theory]
    [InlineData("/", "/", "ext4")]
    [InlineData("/srvother", "/", "ext4")]
    [InlineData("/srv/vm", "/srv", "tmpfs")]
    [InlineData("/srv/my pool/vm", "/srv/my pool", "nfs4")]
    public void A_folder_lies_on_the_last_mount_at_the_longest_point(string folder, string point, string kind)
    {
        var mount = MountTable.Find(Table, folder)!;
        Assert.Equal((point, kind), (mount.MountPoint, mount.Kind));
    }

    [Fact]
    public void What_is_not_a_table_tells_nothing() => Assert.Null(MountTable.Find("no table", "/"));

    [Fact]
    public async Task A_sample_leaves_nothing()
    {
        var folder = Directory.CreateTempSubdirectory("vblab-").FullName;
        try
        {
            var target = new FolderTarget(TargetStorage.Of(Path.Combine(folder, "not", "yet")));
            await using (var sample = await target.BeginSampleAsync(default))
            {
                await sample.WriteAsync(1 << 20, new byte[4096], default);
                await sample.FlushAsync(default);
            }
            Assert.Empty(Directory.GetFileSystemEntries(folder));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
