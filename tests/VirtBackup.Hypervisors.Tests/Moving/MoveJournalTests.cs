using System.Runtime.Versioning;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Moving;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Moving;

/// <summary>What a move may remove: that which it made, whoever else moves to the same folder.</summary>
public sealed class MoveJournalTests : IDisposable
{
    private readonly LabDirectory scratch = new();
    private readonly ProcessRunner processes = new(TimeProvider.System);
    private int machines;

    [Fact]
    public async Task A_place_is_one_moves_own_and_only_its_maker_removes_it()
    {
        var first = Begin("disk.raw", "other.raw");
        await TargetImage.ReserveAsync(first, processes, default);
        await TargetImage.CreateAsync("qemu-img", scratch.File("new/disk.raw"), "raw", 4096, processes, default);
        var second = Begin("more.raw", "disk.raw");
        var fault = await Assert.ThrowsAsync<FaultException>(() => TargetImage.ReserveAsync(second, processes, default));
        Assert.Equal(FaultReason.FailedPrecondition, fault.Reason);
        Assert.Contains("disk.raw exists already", fault.Message, StringComparison.Ordinal);

        MoveJournal.Read(second.FilePath)!.RemoveTargets();
        Assert.Equal(["disk.raw", "other.raw"], Made());
        MoveJournal.Read(first.FilePath)!.RemoveTargets();
        Assert.False(Directory.Exists(scratch.File("new")));
    }

    [Fact]
    public void What_was_killed_before_it_knew_which_places_it_had_removes_empty_files_only()
    {
        var journal = Begin("disk.raw", "other.raw");
        Directory.CreateDirectory(scratch.File("new"));
        File.WriteAllText(scratch.File("new/disk.raw"), "");
        File.WriteAllText(scratch.File("new/other.raw"), "somebody's");
        MoveJournal.Read(journal.FilePath)!.RemoveTargets();
        Assert.Equal(["other.raw"], Made());
    }

    [Theory]
    [SupportedOSPlatform("linux")]
    [InlineData("/dev/null", 438)] // rw-rw-rw-
    [InlineData(null, 416)] // rw-r-----
    public async Task A_new_image_has_the_rights_of_the_device_or_of_the_file_that_a_link_leads_to(string? device, int rights)
    {
        var file = scratch.File("old");
        await File.WriteAllTextAsync(file, "");
        File.SetUnixFileMode(file, (UnixFileMode)416);
        File.CreateSymbolicLink(scratch.File("link"), device ?? file);
        var journal = Begin(scratch.File("link"), "disk.qcow2");
        await TargetImage.ReserveAsync(journal, processes, default);
        await TargetImage.CreateAsync("qemu-img", scratch.File("new/disk.qcow2"), "qcow2", 4096, processes, default);
        Assert.Equal((UnixFileMode)rights, File.GetUnixFileMode(scratch.File("new/disk.qcow2")));
    }

    public void Dispose() => scratch.Dispose();

    private MoveJournal Begin(params string[] names)
    {
        var old = Path.IsPathRooted(names[0]) ? names[0] : scratch.File("old");
        var disks = names.Where(name => !Path.IsPathRooted(name)).Select(name => new MovingDisk(name, old, scratch.File($"new/{name}"), "raw", "raw", name, name)).ToList();
        File.AppendAllText(scratch.File("old"), "");
        return MoveJournal.Begin(scratch.File("state"), new Id16((UInt128)(uint)++machines), "lab", "tag", false, disks, TargetImage.FindNewFolders(disks.Select(disk => disk.NewPath)));
    }

    private IEnumerable<string?> Made() => Directory.GetFiles(scratch.File("new")).Select(Path.GetFileName).Order();
}
