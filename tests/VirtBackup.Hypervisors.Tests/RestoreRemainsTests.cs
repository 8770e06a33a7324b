using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.State;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests;

public sealed class RestoreRemainsTests
{
    [Fact]
    public void Only_what_was_not_complete_is_removed_and_the_folder_if_nothing_else_is_there()
    {
        using var directory = new LabDirectory();
        var folder = Directory.CreateDirectory(directory.File("restored")).FullName;
        foreach (var name in new[] { "disk-root.qcow2.partial", "image-0.sock", "disk-data.qcow2", "notes.txt" }) File.WriteAllText(Path.Combine(folder, name), "");

        Assert.Equal(["disk-root.qcow2.partial", "image-0.sock"], RestoreRemains.Remove(folder).Select(Path.GetFileName).Order());
        Assert.Equal(["disk-data.qcow2", "notes.txt"], Directory.GetFiles(folder).Select(Path.GetFileName).Order());
        Assert.Empty(RestoreRemains.Remove(folder));

        foreach (var file in Directory.GetFiles(folder)) File.Delete(file);
        Assert.Empty(RestoreRemains.Remove(folder));
        Assert.True(Directory.Exists(folder));
        File.WriteAllText(Path.Combine(folder, "disk-root.raw.partial"), "");
        File.WriteAllText(Path.Combine(Directory.CreateDirectory(StateOf(1, folder)).FullName, "memory"), "");
        RestoreRemains.Remove(folder);
        Assert.False(Directory.Exists(folder));
        Assert.Empty(RestoreRemains.Remove(folder));
    }

    [Fact]
    public void Machines_whose_images_lie_together_have_folders_of_their_own_for_their_states()
    {
        Assert.NotEqual(StateOf(1, "/images"), StateOf(2, "/images"));
        Assert.Equal(StateOf(1, "/images"), StateOf(1, "/images"));
    }

    private static string StateOf(int machine, string folder) => new StateFiles(
        new ImageTools(), new RestoreRequest(new Id16((UInt128)(uint)machine), default, "qemu", new MachineConfiguration("", default, "", default), [], folder, ""), folder).Place;
}
