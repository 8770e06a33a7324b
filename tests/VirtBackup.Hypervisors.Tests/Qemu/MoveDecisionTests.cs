using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Hypervisors.Moving;
using VirtBackup.Hypervisors.Qemu;
using VirtBackup.Hypervisors.Qemu.Moving;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Qemu;

/// <summary>Steps of a move, against a monitor in QEMU's place.</summary>
public sealed class MoveDecisionTests : IDisposable
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(10);
    private readonly LabDirectory scratch = new();
    private readonly MoveJournal journal;
    private readonly Id16 id = CaptureLab.NewPoint();

    public MoveDecisionTests() => journal = MoveJournal.Begin(scratch.File("state"), id, "lab", "tag", keepSource: false,
        [.. new[] { "one", "two" }.Select(name => new MovingDisk(name, $"/old/{name}", $"/new/{name}", "qcow2", "qcow2", name, $"job-{name}") { Bitmaps = ["tracks"] })], []);

    [Fact]
    public async Task A_guest_goes_on_though_its_bitmaps_cannot_record_and_without_them()
    {
        journal.Enter(MoveStage.Pivoting);
        var folder = Directory.CreateDirectory(scratch.File(MoveNames.Folder(id, "tag"))).FullName;
        await File.WriteAllTextAsync(Path.Combine(folder, MoveNames.JournalMark), journal.FilePath);
        new FreezeMarks(folder).Set(FreezeMarks.Stopped);
        await using var monitor = new ScriptedMonitor(scratch.File("qmp.sock"), static (command, _) => command switch
        {
            "query-block" => """[{"inserted":{"node-name":"job-one"}},{"inserted":{"node-name":"two"}}]""",
            "query-named-block-nodes" => """[{"node-name":"job-one","dirty-bitmaps":[{"name":"tracks"}]}]""",
            "query-status" => """{"status":"paused"}""",
            "query-jobs" => "[]",
            "transaction" => null,
            _ => "{}",
        });
        await using var qmp = await QmpClient.ConnectAsync(monitor.SocketPath, TimeProvider.System, Limit, Limit, default);
        await HeldGuest.ContinueAsync(qmp, folder, TimeProvider.System, default);
        Assert.Contains("""block-dirty-bitmap-remove {"node":"job-one","name":"tracks"}""", monitor.Asked);
        Assert.Equal("cont", monitor.Asked.Last());
        var after = MoveJournal.Read(journal.FilePath)!;
        Assert.Equal((MoveStage.Settled, true, false), (after.Stage, after.Disks[0].Moved, after.Disks[1].Moved));
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(1, 1)] // none would be no limit
    [InlineData(9, 4)]
    public async Task The_pace_of_a_move_is_shared_by_its_disks(long asked, long each)
    {
        var machine = new QemuMachine(id, "lab", scratch.File("qmp.sock"));
        await using var monitor = new ScriptedMonitor(machine.QmpSocket,
            (command, _) => command switch { "query-uuid" => $$"""{"UUID":"{{id.ToUuidString()}}"}""", "query-named-block-nodes" => "[]", _ => "{}" });
        var context = new QemuDriverContext(new QemuOptions(scratch.Path), TimeProvider.System, SystemEntropy.Instance, new ProcessRunner(TimeProvider.System));
        await new MirrorRun(context, machine, new StorageMoveRequest(id, "/new") { BytesPerSecondMax = asked }, journal).BeginAsync(default);
        Assert.Equal(2, monitor.Asked.Count(line => line.StartsWith("blockdev-mirror", StringComparison.Ordinal) && line.Contains($"\"speed\":{each},", StringComparison.Ordinal)));
    }

    public void Dispose() => scratch.Dispose();
}
