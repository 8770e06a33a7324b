using VirtBackup.Hypervisors.Qemu;

namespace VirtBackup.Hypervisors.Tests.Qemu;

public sealed class LaterDisksTests
{
    private static readonly string[] Arguments =
    [
        "-drive", "file=/vm/a,,b.qcow2,format=qcow2", "-blockdev", """{"driver":"raw","file":{"driver":"file","filename":"/vm/ä\"c.raw"}}""",
        "-hda", "/vm/old.img", "-blockdev", "driver=raw,node-name=x,file.driver=host_device,file.filename=/dev/loop1",
    ];

    [Theory]
    [InlineData("/vm/a,b.qcow2", true)]
    [InlineData("/vm/a", false)]
    [InlineData("/vm/a,b.qcow", false)]
    [InlineData("a,b.qcow2", false)]
    [InlineData("/vm/ä\"c.raw", true)]
    [InlineData("/vm/old.img", true)]
    [InlineData("/vm/old", false)]
    [InlineData("/dev/loop1", true)]
    [InlineData("/dev/loop", false)]
    [InlineData("", false)]
    public void A_file_is_named_only_as_a_whole(string file, bool isNamed) => Assert.Equal(isNamed, LaterDisks.Names(Arguments, file));
}
