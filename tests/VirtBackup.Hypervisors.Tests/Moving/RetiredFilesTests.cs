using VirtBackup.Core;
using VirtBackup.Hypervisors.Moving;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Moving;

public sealed class RetiredFilesTests : IDisposable
{
    private readonly LabDirectory scratch = new();
    private readonly Id16 machine = Id16.Parse("0123456789abcdef0123456789abcdef");

    private MovingRecords Records => new(scratch.File("state"));

    public void Dispose() => scratch.Dispose();

    [Fact]
    public void What_took_an_old_name_meanwhile_is_not_deleted_with_the_retired_file()
    {
        foreach (var name in new[] { "renamed", "not-yet" }) File.WriteAllText(scratch.File(name), "retired");
        var record = RecordOf("renamed", "not-yet");
        // A retirement that was killed between the two.
        File.Move(record.Files[0].From, record.Files[0].To);
        File.WriteAllText(scratch.File("renamed"), "somebody's");
        Assert.Equal([.. record.Files.Select(file => file.To)], RetiredFiles.Delete(record, Records));
        Assert.Equal([scratch.File("renamed")], Directory.GetFiles(scratch.Path));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void What_has_an_old_name_again_is_not_deleted_when_the_deletion_is_repeated(bool isDeleted)
    {
        File.WriteAllText(scratch.File("disk"), "retired");
        var record = RetiredFiles.Rename(RecordOf("disk"), Records);
        Assert.Equal(record.Files, Records.FindRetired(machine)!.Files);
        Assert.Equal([record.Files[0].To], RetiredFiles.ListRenamed(record));
        if (isDeleted)
        {
            RetiredFiles.Delete(record, Records);
            File.WriteAllText(scratch.File("disk"), "somebody's");
        }
        else
        {
            File.Move(record.Files[0].To, record.Files[0].From);
        }
        Assert.Empty(RetiredFiles.Delete(Records.FindRetired(machine)!, Records));
        Assert.True(File.Exists(scratch.File("disk")));
    }

    private RetiredRecord RecordOf(params string[] names) => new(machine.ToString(), "lab", RetiredFiles.Choose(names.Select(scratch.File)), Deleted: false);
}
