using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Guests;

/// <summary>What may be said of a cut is what the guest agent confirmed, and no hook or freeze is left without its end.</summary>
public sealed class QuiesceTests : IDisposable
{
    private readonly LabDirectory folder = new();
    private readonly ScriptedAgent agent = new();
    private readonly List<string> log = [];

    public void Dispose() => folder.Dispose();

    private FreezeMarks Marks => new(folder.Path);

    private CaptureRequest Request(GuestHooks? hooks = null) => new(Id16.Create(SystemEntropy.Instance), Id16.Create(SystemEntropy.Instance), null, new HashSet<string>())
    {
        Hooks = hooks ?? GuestHooks.None, Log = log.Add,
    };

    private static GuestHooks Hooks(bool abort = false) =>
        new(new GuestCommand(["/pause", "now"], TimeSpan.FromMilliseconds(120)), new GuestCommand(["/resume"], TimeSpan.FromSeconds(5)), abort);

    private async Task<(CaptureConsistency Consistency, string Detail)> CutAsync(CaptureRequest request, Func<Task>? cut = null, bool hasAgent = true)
    {
        await using var quiesce = await Quiesce.BeginAsync(
            request, running: true, hasAgent ? _ => Task.FromResult<IGuestAgent>(agent) : null, Marks, null, TimeProvider.System, default);
        agent.Asked.Add("cut");
        await (cut?.Invoke() ?? Task.CompletedTask);
        await quiesce.ThawAsync();
        return (quiesce.Consistency, quiesce.Detail);
    }

    [Fact]
    public async Task Application_level_needs_a_hook_that_succeeded_and_a_freeze_that_held()
    {
        agent.Output = "flushed\u001b[2J\nsecond line";
        var (consistency, detail) = await CutAsync(Request(Hooks()));
        Assert.Equal(CaptureConsistency.Application, consistency);
        Assert.Matches("^2 file systems were frozen for [0-9]+ ms; freezing them had taken [0-9]+ ms\\.$", detail);
        Assert.Equal(["/pause", "freeze", "cut", "thaw", "/resume"], agent.Asked);
        Assert.Contains("Hook before the freeze: /pause now", log);
        Assert.Contains("Hook before the freeze said: flushed [2J", log);
        Assert.Contains("Hook after the thaw: ended well", log);
        Assert.False(Marks.Any);
        Assert.Equal(CaptureConsistency.Filesystem, (await CutAsync(Request())).Consistency);
    }

    [Theory]
    [InlineData(3, "ended with exit code 3")]
    [InlineData(null, "did not end within 0.1 s; it is still running in the guest")]
    public async Task A_failing_hook_costs_the_level_or_the_capture_and_the_other_one_always_runs(int? code, string told)
    {
        agent.ExitCodes["/pause"] = code;
        var (consistency, detail) = await CutAsync(Request(Hooks()));
        Assert.Equal(CaptureConsistency.Filesystem, consistency);
        Assert.StartsWith($"The hook before the freeze {told}. 2 file systems were frozen", detail, StringComparison.Ordinal);
        Assert.Equal(["/pause", "freeze", "cut", "thaw", "/resume"], agent.Asked.Where(asked => asked != "x"));

        agent.Asked.Clear();
        var fault = await Assert.ThrowsAsync<FaultException>(() => CutAsync(Request(Hooks(abort: true))));
        Assert.Equal(FaultReason.FailedPrecondition, fault.Reason);
        Assert.Contains(told, fault.Message, StringComparison.Ordinal);
        Assert.Equal(["/pause", "/resume"], agent.Asked);
        Assert.False(Marks.Any);
    }

    [Fact]
    public async Task A_freeze_that_did_not_hold_makes_the_cut_crash_consistent()
    {
        agent.Thawed = 0;
        var (consistency, detail) = await CutAsync(Request(Hooks()));
        Assert.Equal(CaptureConsistency.Crash, consistency);
        Assert.Contains("thawed before the cut was made", detail, StringComparison.Ordinal);

        agent.Thawed = 2;
        agent.Asked.Clear();
        var late = Request() with { FreezeLimit = TimeSpan.FromMilliseconds(100) };
        (consistency, detail) = await CutAsync(late, () => Task.Delay(1000));
        Assert.Equal(CaptureConsistency.Crash, consistency);
        Assert.Contains("was not made within 0.1 s", detail, StringComparison.Ordinal);
        Assert.Equal(["freeze", "cut", "ask-thaw", "thaw"], agent.Asked);
    }

    [Fact]
    public async Task A_thaw_that_is_not_confirmed_leaves_its_mark_for_whoever_can_do_it()
    {
        agent.ThawFailure = ScriptedAgent.Silence;
        var (consistency, detail) = await CutAsync(Request(Hooks()));
        Assert.Equal(CaptureConsistency.Crash, consistency);
        Assert.Contains("did not confirm the thaw", detail, StringComparison.Ordinal);
        Assert.True(Marks.Has(FreezeMarks.Frozen));
        Assert.Equal(["/resume"], Marks.FindAfterThaw()!.Words);
        Assert.DoesNotContain("/resume", agent.Asked);
    }

    [Fact]
    public async Task A_freeze_that_failed_is_thawed_all_the_same_and_the_hook_runs()
    {
        agent.FreezeFailure = ScriptedAgent.Silence;
        var (consistency, detail) = await CutAsync(Request(Hooks()));
        Assert.Equal(CaptureConsistency.Crash, consistency);
        Assert.StartsWith("Crash-consistent: The guest agent did not answer.", detail, StringComparison.Ordinal);
        Assert.Equal(["/pause", "freeze", "ask-thaw", "cut", "thaw", "/resume"], agent.Asked);
        Assert.False(Marks.Any);
    }

    [Fact]
    public async Task Others_are_waited_for_between_the_hook_and_the_freeze()
    {
        var gate = new TestGate((step, _) =>
        {
            agent.Asked.Add(step);
            return Task.CompletedTask;
        });
        await CutAsync(Request(Hooks()) with { Gate = gate });
        Assert.Equal(["/pause", "prepared", "freeze", "cut", "thaw", "/resume"], agent.Asked);
        agent.Asked.Clear();
        await CutAsync(Request() with { Gate = gate }, hasAgent: false);
        Assert.Equal(["prepared", "cut"], agent.Asked);
        agent.Asked.Clear();
        var failing = new TestGate(static (_, _) => throw ScriptedAgent.Silence);
        await Assert.ThrowsAsync<FaultException>(() => CutAsync(Request(Hooks()) with { Gate = failing }));
        Assert.Equal(["/pause", "/resume"], agent.Asked);
        Assert.False(Marks.Any);
    }

    [Fact]
    public async Task A_machine_that_must_not_be_backed_up_without_its_hook_needs_an_agent()
    {
        var fault = await Assert.ThrowsAsync<FaultException>(() => CutAsync(Request(Hooks(abort: true)), hasAgent: false));
        Assert.Contains("no guest agent is configured", fault.Message, StringComparison.Ordinal);
        Assert.Equal(CaptureConsistency.Crash, (await CutAsync(Request(Hooks()), hasAgent: false)).Consistency);
        Assert.Equal(CaptureConsistency.Crash, (await CutAsync(Request(Hooks(abort: true)) with { Quiesce = false })).Consistency);
    }
}
