using VirtBackup.Agent.Host;

namespace VirtBackup.Agent.Tests;

public sealed class RestoreNoteTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("vb-notes-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void Notes_that_cannot_be_read_are_told_and_hide_no_others()
    {
        var told = new List<string>();
        var notes = new FileRestoreNotes(_folder, told.Add);
        notes.Add("/srv/new");
        Directory.CreateDirectory(Path.Combine(_folder, "folder.txt"));
        File.WriteAllBytes(Path.Combine(_folder, "bytes.txt"), [0xff, 0xfe, 0x00, 0xff]);
        File.WriteAllBytes(Path.Combine(_folder, "long.txt"), new byte[1 << 20]);
        File.CreateSymbolicLink(Path.Combine(_folder, "gone.txt"), "/nonexistent/file");
        File.WriteAllText(Path.Combine(_folder, "relative.txt"), "some/folder");
        Assert.Equal(["/srv/new"], notes.List());
        Assert.Equal(4, told.Count);
        Assert.All(new[] { "folder.txt", "bytes.txt", "long.txt", "gone.txt" }, name => Assert.Contains(told, line => line.Contains(name, StringComparison.Ordinal)));
        notes.Remove("/srv/new");
        Assert.Empty(notes.List());
    }
}
