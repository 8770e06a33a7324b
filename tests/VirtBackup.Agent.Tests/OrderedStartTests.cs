using System.Net;
using System.Net.Sockets;
using System.Text;
using VirtBackup.Agent.Flow;
using VirtBackup.Agent.Restore;
using VirtBackup.Agent.Restore.Starting;
using VirtBackup.Agent.Tests.Fakes;
using VirtBackup.Core;
using VirtBackup.Hypervisors;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;
using Gate = VirtBackup.Protocol.Agent.V1.StartOrder.Types.Gate;

namespace VirtBackup.Agent.Tests;

public sealed class OrderedStartTests : IDisposable
{
    private const int Chunk = 256 << 10;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

    private readonly Rig _rig = new(1, Rig.RandomBytes(1, 3 * Chunk));
    private readonly StartGate _gate = new();
    private readonly RunProgress _progress = new();
    private int _urgentBegun;
    private int _urgentHeld;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task DisksAreWholeBeforeTheGateAndTheMachineStartsBehindIt()
    {
        var restoring = RestoreAsync(null);
        await UntilAsync(() => _progress.StartStage == StartStage.Restored);
        _gate.Set(new StartOrder { Gate = Gate.Closed });
        Assert.False(_rig.Hypervisor.Restored!.Completed);
        Assert.Equal(_rig.Disk.Content, _rig.Hypervisor.Restored.Content(_rig.Disk.Summary.Id));
        Assert.False(restoring.IsCompleted);
        _gate.Set(new StartOrder { Gate = Gate.Open });
        var result = await restoring.WaitAsync(Patience, Token);
        Assert.True(_rig.Hypervisor.Restored.Started && result.Running);
        Assert.True(result.ReadySeconds > 0);
        // What was decided stays so.
        _gate.Set(new StartOrder { Gate = Gate.StayOff });
        Assert.True(await _gate.WaitAsync(Token));
        Assert.DoesNotContain("started", _progress.Survey!.Path, StringComparison.Ordinal);
    }

    [Fact]
    public async Task AMachineThatIsToStayOffIsWholeAndNotStarted()
    {
        _gate.Set(new StartOrder { Gate = Gate.StayOff });
        var result = await RestoreAsync(new ReadinessProbe { Command = "check" }, Command("check", "/bin/false")).WaitAsync(Patience, Token);
        Assert.Equal((false, 0.0), (result.Running, result.ReadySeconds));
        Assert.True(_rig.Hypervisor.Restored is { Completed: true, Started: false });
    }

    [Fact]
    public async Task ACommandThatThisHostDoesNotNameIsRefusedBeforeAByteMoves()
    {
        var fault = await Assert.ThrowsAsync<FaultException>(() => RestoreAsync(new ReadinessProbe { Command = "other" }, Command("check", "/bin/true")));
        Assert.Equal(FaultReason.FailedPrecondition, fault.Reason);
        Assert.Contains("agent.yaml", fault.Message, StringComparison.Ordinal);
        Assert.Null(_rig.Hypervisor.Restored);
    }

    [Fact]
    public async Task ACommandIsAskedUntilItSucceedsAndIsToldWhichMachineItIsAbout()
    {
        var folder = Directory.CreateTempSubdirectory("vbprobe");
        try
        {
            var path = Path.Combine(folder.FullName, "asked");
            _gate.Set(new StartOrder { Gate = Gate.Open });
            var script = $"echo \"$VIRTBACKUP_VM $VIRTBACKUP_VM_ID $VIRTBACKUP_FOLDER\" >> {path}; [ $(wc -l < {path}) -ge 3 ]";
            await RestoreAsync(new ReadinessProbe { Command = "check", IntervalMs = 200, TimeoutMs = 80_000_000 }, Command("check", "/bin/sh", "-c", script)).WaitAsync(Patience, Token);
            var lines = await File.ReadAllLinesAsync(path, Token);
            Assert.Equal(3, lines.Length);
            Assert.EndsWith($" {_rig.Hypervisor.Machine} /restored", lines[0], StringComparison.Ordinal);
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    [Fact]
    public async Task AnAgentThatStoppedGivingWayForAStartGivesWayAgainWhenItFails()
    {
        _gate.Set(new StartOrder { Gate = Gate.Open });
        _rig.Hypervisor.StartFault = new FaultException(FaultReason.HypervisorUnavailable, "It does not start.");
        await Assert.ThrowsAsync<FaultException>(() => RestoreAsync(null));
        Assert.Equal((1, 0), (_urgentBegun, _urgentHeld));
    }

    [Fact]
    public async Task AMachineThatIsNotReadyInTimeFailsWithTheReasonAndRunsOn()
    {
        _gate.Set(new StartOrder { Gate = Gate.Open });
        var fault = await Assert.ThrowsAsync<FaultException>(() => RestoreAsync(new ReadinessProbe { Command = "check", IntervalMs = 100, TimeoutMs = 400 }, Command("check", "/bin/false")));
        Assert.Contains("was not ready within 0.4 s: the command 'check' ended with exit code 1", fault.Message, StringComparison.Ordinal);
        Assert.True(_rig.Hypervisor.Restored!.Started);
    }

    [Fact]
    public async Task TcpAndHttpAreAskedFromHere()
    {
        var probes = new ReadinessProbes(new Dictionary<string, ProbeCommand>(), TimeProvider.System);
        var machine = new RestoredMachine(default, "db", true, new Dictionary<string, string>());
        Task<string?> TryAsync(ReadinessProbe probe) => probes.TryAsync(probe, machine, Token);
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var address = listener.LocalEndpoint.ToString()!;
        Assert.Null(await TryAsync(new ReadinessProbe { Tcp = address }));
        (await listener.AcceptTcpClientAsync(Token)).Dispose();
        foreach (var (status, ready) in new[] { ("200 OK", true), ("302 Found", true), ("503 Busy", false) })
        {
            var asking = TryAsync(new ReadinessProbe { Http = $"http://{address}/health" });
            using (var client = await listener.AcceptTcpClientAsync(Token))
            {
                var stream = client.GetStream();
                var request = new byte[4096];
                Assert.StartsWith("GET /health", Encoding.ASCII.GetString(request, 0, await stream.ReadAsync(request, Token)), StringComparison.Ordinal);
                await stream.WriteAsync(Encoding.ASCII.GetBytes($"HTTP/1.1 {status}\r\nContent-Length: 0\r\nLocation: http://{address}/x\r\nConnection: close\r\n\r\n"), Token);
            }
            Assert.Equal(ready, await asking is null);
        }
        listener.Stop();
        Assert.Contains("does not accept connections", await TryAsync(new ReadinessProbe { Tcp = address }), StringComparison.Ordinal);
        Assert.Contains("does not answer", await TryAsync(new ReadinessProbe { Http = $"http://{address}/" }), StringComparison.Ordinal);
        Assert.Contains("no channel", await TryAsync(new ReadinessProbe { GuestAgent = true }), StringComparison.Ordinal);
        Assert.Null(await TryAsync(new ReadinessProbe()));
    }

    public void Dispose() => _rig.Dispose();

    private static Dictionary<string, ProbeCommand> Command(string name, params string[] words) =>
        new() { [name] = new ProbeCommand(new GuestCommand(words, TimeSpan.FromHours(1)), InGuest: false) };

    private async Task<RestoreResult> RestoreAsync(ReadinessProbe? probe, Dictionary<string, ProbeCommand>? commands = null)
    {
        var point = (await _rig.BackupAsync()).PointId;
        var options = new RestoreOptions { Folder = "/restored", Start = true };
        var time = _rig.Context.Tools.Time;
        var run = new RestoreRun(_rig.Context, [_rig.Hypervisor], _rig.NewId().ToString(), 1, _rig.Hypervisor.Machine, Id16.Parse(point), options, _progress)
        {
            Start = new OrderedStart(_gate, probe, new ReadinessProbes(commands ?? [], time), BeginUrgent, _progress, time),
        };
        return await run.RunAsync(Token);
    }

    private Urgent BeginUrgent()
    {
        _urgentBegun++;
        _urgentHeld++;
        return new Urgent(this);
    }

    private sealed class Urgent(OrderedStartTests tests) : IDisposable
    {
        public void Dispose() => tests._urgentHeld--;
    }

    private static async Task UntilAsync(Func<bool> isSo)
    {
        for (var i = 0; !isSo(); i++)
        {
            Assert.True(i < 4000, "It did not come to that.");
            await Task.Delay(5, Token);
        }
    }
}
