using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Hypervisors.Qemu;
using VirtBackup.Hypervisors.Tests.Guests;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Qemu;

/// <summary>Cuts of a group, against a monitor in QEMU's place.</summary>
public sealed class GatedCutTests : IDisposable
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(10);
    private readonly LabDirectory scratch = new();
    private readonly QemuMachine machine;

    public GatedCutTests() => machine = new QemuMachine(new Id16(1), "lab", scratch.File("qmp.sock"));

    [Fact]
    public async Task A_guest_that_was_started_while_the_others_were_waited_for_is_watched_over()
    {
        var running = true;
        await using var monitor = new ScriptedMonitor(machine.QmpSocket, (command, _) =>
        {
            running = command == "cont" || (running && command != "stop");
            return command == "query-status" ? $$"""{"status":"{{(running ? "running" : "paused")}}"}""" : "{}";
        });
        await using var qmp = await QmpClient.ConnectAsync(machine.QmpSocket, TimeProvider.System, Limit, Limit, default);
        var guard = new CountingGuard();
        var gate = new TestGate((step, _) =>
        {
            Assert.Equal(step == "ready" ? 0 : 1, guard.Armed);
            Assert.Equal(step is "frozen" or "cut", File.Exists(scratch.File(FreezeMarks.Stopped)));
            return Task.CompletedTask;
        });
        await Cut(qmp, gate, guard, null).CutAsync([], [], [], running: false, default);
        Assert.Equal("held", gate.Passed[^1]);
        Assert.Equal((1, 0), (guard.Armed, guard.Watching));
        Assert.True(running);
    }

    [Fact]
    public async Task A_guest_that_stands_still_until_it_is_saved_is_given_up_when_its_group_has_waited_long_enough()
    {
        var polls = 0;
        await using var monitor = new ScriptedMonitor(machine.QmpSocket,
            (command, _) => command == "query-migrate" ? $$"""{"status":"{{(++polls < 200 ? "active" : "completed")}}"}""" : "{}");
        await using var qmp = await QmpClient.ConnectAsync(machine.QmpSocket, TimeProvider.System, Limit, Limit, default);
        var context = new QemuDriverContext(new QemuOptions(scratch.Path), TimeProvider.System, SystemEntropy.Instance, new ProcessRunner(TimeProvider.System));
        using var state = new StateSave(qmp, machine, context, scratch.Path, StateCapture.Stopped);
        var gate = new TestGate();
        var fault = await Assert.ThrowsAsync<FaultException>(() => Cut(qmp, gate, null, state).CutAsync([], [], [], running: true, default));
        Assert.Contains("within 0.3 s", fault.Message, StringComparison.Ordinal);
        Assert.Equal("cont", monitor.Asked.Last());
        Assert.DoesNotContain("cut", gate.Passed);
    }

    public void Dispose() => scratch.Dispose();

    private CaptureCut Cut(QmpClient qmp, ICutGate gate, IFreezeGuard? guard, StateSave? state) => new(
        qmp, machine, new CaptureRequest(machine.Uuid, new Id16(2), null, new HashSet<string>()) { Gate = gate, FreezeLimit = TimeSpan.FromSeconds(0.4) },
        new QemuOptions(scratch.Path) { Guard = guard }, TimeProvider.System, SystemEntropy.Instance, scratch.Path)
    {
        State = state,
    };

    private sealed class CountingGuard : IFreezeGuard, IFreezeLease
    {
        public int Armed { get; private set; }

        public int Watching { get; private set; }

        public ValueTask<IFreezeLease> ArmAsync(FreezeTarget target, TimeSpan limit, CancellationToken cancellationToken)
        {
            (Armed, Watching) = (Armed + 1, Watching + 1);
            return ValueTask.FromResult<IFreezeLease>(this);
        }

        public ValueTask RenewAsync(TimeSpan limit, CancellationToken cancellationToken) => ValueTask.CompletedTask;

        public ValueTask<bool> DisarmAsync()
        {
            Watching--;
            return ValueTask.FromResult(true);
        }

        public ValueTask DisposeAsync() => ValueTask.CompletedTask;
    }
}
