using VirtBackup.Core;
using VirtBackup.Hypervisors.Moving;
using VirtBackup.Hypervisors.Qemu;
using VirtBackup.Hypervisors.Qemu.Moving;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Qemu;

/// <summary>The command line of a process whose disk went from place to place; letters are places.</summary>
public sealed class MovedDisksTests
{
    [Theory]
    [InlineData("A", "AB")]
    [InlineData("A", "ABC")]
    [InlineData("A", "ABCB")]
    [InlineData("A", "ABCBC")]
    [InlineData("A", "ABCBCD")]
    [InlineData("A", "ABACBD")]
    [InlineData("Z", "XYZXY")] // its process was started on the third place
    public void A_disk_is_found_where_the_process_was_started_with_it(string started, string way)
    {
        using var scratch = new LabDirectory();
        var machine = new Id16(1);
        foreach (var (from, to) in way.Zip(way[1..]))
        {
            var moved = new MovingDisk("disk", $"/{from}.raw", $"/{to}.raw", "raw", "raw", "node", "job");
            MovedDisks.Remember(scratch.Path, machine, [moved]);
            MovedDisks.Remember(scratch.Path, machine, [moved]); // as behind a kill
        }
        var disk = new QemuDisk(new DiskSummary(machine, "disk", 512, "raw", null), "node", null, null, "", $"/{way[^1]}.raw", true, [], null);
        var arguments = MovedDisks.Apply(scratch.Path, machine, new QemuProcess("/qemu", "/", ["-drive", $"file=/{started}.raw,format=raw,id=disk"]), [disk]);
        Assert.Equal(["-drive", $"file=/{way[^1]}.raw,format=raw,id=disk"], arguments);
    }
}
