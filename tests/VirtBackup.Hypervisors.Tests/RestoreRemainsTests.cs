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
        File.WriteAllText(Path.Combine(Directory.CreateDirectory(Path.Combine(folder, ".vb-state")).FullName, "memory"), "");
        RestoreRemains.Remove(folder);
        Assert.False(Directory.Exists(folder));
        Assert.Empty(RestoreRemains.Remove(folder));
    }
}
