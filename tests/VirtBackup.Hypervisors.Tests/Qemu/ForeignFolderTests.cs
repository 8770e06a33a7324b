using System.Text;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Hypervisors.Moving;
using VirtBackup.Hypervisors.Qemu;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Qemu;

/// <summary>The folder of a capture belongs to QEMU's user: what that one puts there moves nothing outside.</summary>
public sealed class ForeignFolderTests : IDisposable
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(10);
    private readonly LabDirectory scratch = new();
    private readonly string folder;

    public ForeignFolderTests() => folder = Directory.CreateDirectory(scratch.File($"virtbackup-{new Id16(1)}-0123abcd")).FullName;

    [Fact]
    public async Task A_journal_that_a_capture_names_is_not_believed()
    {
        var journal = MoveJournal.Begin(scratch.File("state"), new Id16(1), "lab", "tag", keepSource: false, [], []);
        journal.Enter(MoveStage.Pivoting);
        await File.WriteAllTextAsync(Path.Combine(folder, "moving"), journal.FilePath);
        await File.WriteAllTextAsync(Path.Combine(folder, "stopped"), "");
        await using var monitor = Monitor("""{}""", """{"status":"paused"}""", """{}""");
        await using var qmp = await QmpClient.ConnectAsync(monitor.SocketPath, TimeProvider.System, Limit, Limit, default);
        await HeldGuest.ContinueAsync(qmp, folder, TimeProvider.System, default);
        Assert.False(File.Exists(Path.Combine(folder, "stopped")));
        Assert.Equal(MoveStage.Pivoting, MoveJournal.Read(journal.FilePath)!.Stage);
    }

    [Fact]
    public async Task Marks_and_settings_are_written_into_the_folder_and_not_to_where_its_links_lead()
    {
        var outside = scratch.File("outside");
        await File.WriteAllTextAsync(outside, "somebody's");
        foreach (var name in new[] { FreezeMarks.Stopped, "migration.json", "migration.json.partial" }) File.CreateSymbolicLink(Path.Combine(folder, name), outside);
        new FreezeMarks(folder).Set(FreezeMarks.Stopped);
        await using var monitor = Monitor("""{}""", """[{"capability":"xbzrle","state":true}]""", """{"max-bandwidth":7}""", """{}""", """{}""");
        await using var qmp = await QmpClient.ConnectAsync(monitor.SocketPath, TimeProvider.System, Limit, Limit, default);
        await new MigrationSettings(folder).ApplyAsync(qmp, live: false, default);
        Assert.Equal("somebody's", await File.ReadAllTextAsync(outside));
        Assert.Contains("xbzrle", await File.ReadAllTextAsync(Path.Combine(folder, "migration.json")), StringComparison.Ordinal);
        Assert.True(new FreezeMarks(folder).Has(FreezeMarks.Stopped));
    }

    public void Dispose() => scratch.Dispose();

    private FakeMonitor Monitor(params string[] values) => new(scratch.File("qmp.sock"),
        Encoding.UTF8.GetBytes("""{"QMP":{"version":{"qemu":{"micro":22,"minor":2,"major":7},"package":""},"capabilities":[]}}""" + "\n"),
        [.. values.Select((value, i) => Encoding.UTF8.GetBytes($$"""{"return":{{value}},"id":"{{i + 1}}"}""" + "\n"))]);
}
