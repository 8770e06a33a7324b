using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;
using Task = System.Threading.Tasks.Task;

namespace VirtBackup.Controller.Tests;

/// <summary>A machine on the host of one agent, and another agent that it can go to.</summary>
internal sealed class Move : IAsyncDisposable
{
    private CancellationTokenSource _running = new();
    private Task _role = Task.CompletedTask;
    private readonly CancellationTokenSource _ending = new();
    private Task _clock = Task.CompletedTask;

    public required World World { get; init; }

    public required TestAgent Source { get; init; }

    public required FakeHosts Hosts { get; init; }

    public FakeAgent SourceAgent { get; private set; } = null!;

    public FakeAgent TargetAgent { get; private set; } = null!;

    public static async Task<Move> PrepareAsync(Copy copy = Copy.Running)
    {
        var world = await World.CreateAsync();
        var source = await world.EnrollAsync("source");
        var target = await TestAgent.EnrollAsync(world, "target", await world.NewTokenAsync("target"));
        var move = new Move { World = world, Source = source, Hosts = new FakeHosts(world) { ["source"] = copy } };
        move._role = world.Role.RunAsync(move._running.Token);
        move._clock = move.AdvanceAsync();
        move.SourceAgent = new FakeAgent(source, move.Hosts, hasMachine: true);
        move.TargetAgent = new FakeAgent(target, move.Hosts, hasMachine: false);
        await move.PollAsync(() => world.Role.Connections.IsConnected("source") && world.Role.Connections.IsConnected("target"));
        await PollAsync(async () => (await world.Role.Catalog.Machines.FindAsync(source.VmId, World.Token))!.Running == (copy == Copy.Running));
        return move;
    }

    public async Task<string> StartAsync(bool cold, Action<MigrationOptions>? choose = null, string requestId = "")
    {
        var options = new MigrationOptions { Agent = "target", Cold = cold, Restore = new RestoreOptions { Folder = "/srv/m" } };
        choose?.Invoke(options);
        return (await World.Role.Migrations.StartMigrationAsync(new StartMigrationRequest { Vm = Source.VmName, Options = options, RequestId = requestId }, World.Token)).Job.JobId;
    }

    public async Task<Migration> RunAsync(bool cold, Action<MigrationOptions>? choose = null) => await WaitAsync(await StartAsync(cold, choose));

    public async Task<Migration> WaitAsync(string job)
    {
        Migration? migration = null;
        await PollAsync(async () =>
        {
            try
            {
                migration = (await World.Role.Migrations.GetMigrationAsync(new GetMigrationRequest { MigrationId = job }, World.Token)).Migration;
                return migration.State != JobState.Running && (await World.GetJobAsync(job)).State == migration.State;
            }
            catch (ObjectDisposedException)
            {
                return false;
            }
        });
        return migration!;
    }

    public Task PollAsync(Func<bool> isSo) => PollAsync(() => Task.FromResult(isSo()));

    public async Task RestartControllerAsync()
    {
        // Its end ends the streams of its agents.
        SourceAgent.Away = TargetAgent.Away = true;
        await StopRoleAsync();
        await PollAsync(() => !SourceAgent.IsServing && !TargetAgent.IsServing);
        await World.RestartAsync();
        SourceAgent.Away = TargetAgent.Away = false;
        _running = new CancellationTokenSource();
        _role = World.Role.RunAsync(_running.Token);
    }

    public void AssertMoved(Migration done)
    {
        Assert.True(done.State == JobState.Succeeded, done.FailureMessage);
        Assert.Equal((Copy.Retired, Copy.Running), (Hosts["source"], Hosts["target"]));
        Assert.Equal(("retired", "running"), (done.SourceCopy, done.TargetCopy));
        Assert.Null(Hosts.Violation);
    }

    public void AssertStayed(Migration done)
    {
        Assert.Equal(JobState.Failed, done.State);
        Assert.Equal((Copy.Running, Copy.None), (Hosts["source"], Hosts["target"]));
        Assert.Null(Hosts.Violation);
    }

    public void AssertSettled(Migration done, string what)
    {
        Assert.True(Hosts.Violation is null, $"{what}: {Hosts.Violation}");
        Assert.True(
            (Hosts["source"], Hosts["target"]) == (done.State == JobState.Succeeded ? (Copy.Retired, Copy.Running) : (Copy.Running, Copy.None)),
            $"{what}: {done.State} ({done.FailureMessage}), and the source's copy is {Hosts["source"]}, the target's {Hosts["target"]}.");
    }

    public async ValueTask DisposeAsync()
    {
        await SourceAgent.DisposeAsync();
        await TargetAgent.DisposeAsync();
        await StopRoleAsync();
        await _ending.CancelAsync();
        await _clock.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _ending.Dispose();
        await World.DisposeAsync();
    }

    public static async Task PollAsync(Func<Task<bool>> isSo)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        while (!await isSo())
        {
            Assert.False(limit.IsCancellationRequested, "It did not come within 30 s.");
            await Task.Delay(2, World.Token);
        }
    }

    private async Task StopRoleAsync()
    {
        await _running.CancelAsync();
        await _role.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _running.Dispose();
    }

    // What waits for a while waits for less.
    private async Task AdvanceAsync()
    {
        await Task.Yield();
        while (!_ending.IsCancellationRequested)
        {
            World.Time.Advance(TimeSpan.FromMilliseconds(100));
            await Task.Delay(2, CancellationToken.None);
        }
    }
}
