using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Moving;
using VirtBackup.Hypervisors.Qemu;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Moving;

/// <summary>Folders of machines, and what of others' is there, too.</summary>
public sealed class MachineFolderTests : IDisposable
{
    private readonly LabDirectory scratch = new();
    private readonly Id16 machine = new(1), other = new(2);

    private string Folder => scratch.File("vms");

    private string State => scratch.File("state");

    public void Dispose() => scratch.Dispose();

    [Fact]
    public void Paths_beneath_the_folder_are_found_in_options()
    {
        string[] texts = ["file=/f/a b.raw,format=raw", "unix:/f/qmp.sock,server=on", "{\"filename\":\"/f/c.qcow2\"}", "/f/log", "/other/f/x", "/f/", "/f", "/folder/x", "path=/x,log=/f/y", "path=/f/shared/,id=s"];
        Assert.Equal(["/f/a b.raw", "/f/qmp.sock", "/f/c.qcow2", "/f/log", "/f/y", "/f/shared"], MachineFolder.FindPaths("/f/", texts));
    }

    [Fact]
    public async Task A_machine_that_came_here_goes_without_what_others_have_in_its_folder()
    {
        var (own, moved, beneath) = (Make("vms/disk.raw"), Make("vms/moved.raw"), Make("vms/n/disk.raw"));
        var mark = Make("vms/disk.raw.virtbackup-restoring");
        Make("vms/launch.sh");
        Make("vms/tpm/permall");
        // A folder that the machine shares with its host: named by its command line, and not its own.
        var shared = Make("vms/shared/letters");
        Directory.CreateDirectory(scratch.File("vms/empty"));
        var records = new MovingRecords(State);
        records.Write(Adopted(machine, Folder) with { Files = [own, moved, scratch.File("vms/tpm") + "/", scratch.File("vms/shared"), scratch.File("vms/empty"), scratch.File("vms/n"), scratch.File("elsewhere")] });
        records.Write(Adopted(other, scratch.File("vms/n")));
        LastSeen.Write(State, other, Seen(moved));
        Make("elsewhere");

        var removed = await Driver().Control.RetireAsync(machine, new RetireRequest(Delete: true, Undo: false, Folder), default);
        Assert.Equal([Folder], removed.Kept);
        Assert.Equal([own, mark, scratch.File("vms/tpm"), scratch.File("vms/empty"), scratch.File("vms/launch.sh")], removed.Removed);
        Assert.Equal([moved, beneath, shared], Directory.GetFiles(Folder, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal));
        Assert.True(File.Exists(scratch.File("elsewhere")));
        Assert.Null(records.FindAdopted(machine));
        Assert.NotNull(records.FindAdopted(other));
    }

    [Fact]
    public async Task What_took_the_old_name_of_a_retired_disk_stays_in_the_folder_of_its_machine()
    {
        var disk = Make("vms/disk.raw");
        var records = new MovingRecords(State);
        records.Write(Adopted(machine, Folder) with { Files = [disk] });
        var retired = RetiredFiles.Rename(new RetiredRecord(machine.ToString(), "lab", RetiredFiles.Choose([disk]), Deleted: false), records);
        Make("vms/disk.raw");
        var removed = await Driver().Control.RetireAsync(machine, new RetireRequest(Delete: true, Undo: false, ""), default);
        Assert.Equal([retired.Files[0].To], removed.Removed);
        Assert.True(File.Exists(disk));
    }

    [Fact]
    public void Nothing_is_restored_or_moved_into_the_folder_of_another_machine_that_came_here()
    {
        Directory.CreateDirectory(Folder);
        var records = new MovingRecords(State);
        records.Write(Adopted(machine, Folder));
        foreach (var (folder, isIn) in new[] { (scratch.File("vms/n"), true), (Folder, true), (scratch.File("vms2"), false) })
        {
            var request = new RestoreRequest(other, default, "qemu", new MachineConfiguration("other", default, "", default), [], folder, "other");
            Assert.Equal(isIn, RestoreFolder.Check(request, isMachine: false, records).Any(finding => finding.Severity == FindingSeverity.Blocks && finding.Message.Contains("that of lab", StringComparison.Ordinal)));
            foreach (var mover in new[] { machine, other })
            {
                var findings = new List<RestoreFinding>();
                var disk = new MovableDisk(new DiskSummary(other, "disk", 512, "raw", null), "/old/disk.raw", 512, false);
                var moves = NewPlaces.Plan(new StorageMoveRequest(mover, folder), [disk], NewPlaces.FolderOf, records, findings);
                Assert.Equal(isIn && mover == other, findings.Any(finding => finding.Severity == FindingSeverity.Blocks));
                Assert.Equal(isIn && mover == other, moves.Count == 0);
            }
        }
    }

    [Fact]
    public async Task A_restore_that_fails_leaves_what_others_put_into_its_folder()
    {
        var request = new RestoreRequest(machine, default, "qemu", new MachineConfiguration("lab", default, "", default), [new RestoreDisk(machine, "disk", 1 << 20, "raw", 0)], Folder, "lab");
        await using (await ImageRestore.BeginAsync(request, new ImageTools(), default))
        {
            Make("vms/n/disk.raw");
            Assert.Equal(2, Directory.GetFileSystemEntries(Folder).Length);
        }
        Assert.Equal([scratch.File("vms/n")], Directory.GetFileSystemEntries(Folder));
    }

    private QemuHypervisor Driver() => new([], new QemuOptions(scratch.File("fleece")) { StateFolder = State }, TimeProvider.System, SystemEntropy.Instance);

    private AdoptedMachine Adopted(Id16 id, string folder) =>
        new(id.ToString(), "lab", folder, Complete: true, Path.Combine(folder, "qmp.sock"), null, Path.Combine(folder, "launch.sh"), Path.Combine(folder, "qemu.log"), null, []);

    private static byte[] Seen(string image) => new ArgvDocument("/bin/false", "/", [], [new ArgvDisk(new Id16(3).ToString(), "disk", image, "raw", true)], "/none", null).Write();

    private string Make(string name)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(scratch.File(name))!);
        File.WriteAllText(scratch.File(name), "");
        return scratch.File(name);
    }
}
