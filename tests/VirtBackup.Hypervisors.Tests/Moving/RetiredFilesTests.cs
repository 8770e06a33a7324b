using VirtBackup.Hypervisors.Moving;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Moving;

public sealed class RetiredFilesTests
{
    [Fact]
    public void What_took_an_old_name_meanwhile_is_not_deleted_with_the_retired_file()
    {
        using var scratch = new LabDirectory();
        foreach (var name in new[] { "renamed", "not-yet" }) File.WriteAllText(scratch.File(name), "retired");
        var renamed = new RetiredRecord("", "lab", RetiredFiles.Choose([scratch.File("renamed")]), Deleted: false);
        RetiredFiles.Rename(renamed);
        File.WriteAllText(scratch.File("renamed"), "somebody's");
        var record = renamed with { Files = [.. renamed.Files, .. RetiredFiles.Choose([scratch.File("not-yet")])] };
        Assert.Equal([renamed.Files[0].To, scratch.File("not-yet")], RetiredFiles.Delete(record));
        Assert.Equal([scratch.File("renamed")], Directory.GetFiles(scratch.Path));
    }
}
