using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;
using Task = System.Threading.Tasks.Task;
using TaskCase = VirtBackup.Protocol.Agent.V1.Job.TaskOneofCase;

namespace VirtBackup.Controller.Tests;

/// <summary>Machines that move to another host, whatever goes wrong: one copy runs at the end, and never two.</summary>
public sealed class MigrationTests
{
    [Fact]
    public async Task A_warm_migration_copies_until_little_is_left_and_then_moves()
    {
        await using var move = await Move.PrepareAsync();
        move.Hosts.BackupBytes.Clear();
        foreach (var bytes in new[] { 900L << 20, 100L << 20, 5L << 20, 1L << 20 }) move.Hosts.BackupBytes.Enqueue(bytes);
        var done = await move.RunAsync(cold: false);
        Assert.Equal(JobState.Succeeded, done.State);
        Assert.Equal(
            ["source:Backup", "target:Restore", "source:Backup", "target:Restore", "source:Backup", "target:Restore", "source:StopMachine", "source:Backup", "target:Restore", "source:RetireMachine", "target:StartMachine"],
            move.Hosts.Done);
        move.AssertMoved(done);
        Assert.Equal(4, done.Result.Rounds.Count);
        Assert.Equal([900UL << 20, 100UL << 20, 5UL << 20, 1UL << 20], done.Result.Rounds.Select(static round => round.BytesRead));
        Assert.True(done.Result.Rounds[^1].Last);
        Assert.True(done.Result.DowntimeSeconds > 0);
        Assert.Equal(done.Result.DowntimeSeconds, done.Result.Interruption.ActualSeconds);
        Assert.Equal("target", (await move.World.Role.Admin.GetVirtualMachineAsync(new GetVirtualMachineRequest { Vm = move.Source.VmName }, World.Token)).VirtualMachine.Agent);

        // What it took is what the next plan on this path judges by.
        var history = await move.World.Role.Catalog.Migrations.ListScoredAsync("source", "target", 10, World.Token);
        Assert.Equal(done.Result.DowntimeSeconds, Assert.Single(history).DowntimeSeconds, 0.01);
    }

    [Fact]
    public async Task A_machine_that_changes_faster_than_it_is_copied_stays_or_is_stopped_anyway_as_asked()
    {
        foreach (var anyway in new[] { false, true })
        {
            await using var move = await Move.PrepareAsync();
            move.Hosts.BackupBytes.Clear();
            move.Hosts.BackupBytes.Enqueue(500L << 20);
            var done = await move.RunAsync(cold: false, options => options.StopAnyway = anyway);
            if (anyway)
            {
                move.AssertMoved(done);
                continue;
            }
            move.AssertStayed(done);
            Assert.Contains("--stop-anyway", done.FailureMessage, StringComparison.Ordinal);
            Assert.DoesNotContain("source:StopMachine", move.Hosts.Done);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Whatever_fails_once_one_copy_runs_at_the_end_and_never_two(bool cold)
    {
        (string, TaskCase)[] places =
        [
            ("target", TaskCase.CheckRestore), ("source", TaskCase.Backup), ("target", TaskCase.Restore), ("source", TaskCase.StopMachine), ("source", TaskCase.RetireMachine), ("target", TaskCase.StartMachine),
        ];
        foreach (var (agent, task) in places)
        {
            foreach (var mishap in new[] { Mishap.Fails, Mishap.FailsBehind, Mishap.DiesBefore, Mishap.DiesBehind })
            {
                // Of what is done several times the first, and those before and behind the stop.
                foreach (var which in Enumerable.Range(1, task is TaskCase.Backup or TaskCase.Restore && !cold ? 3 : 1))
                {
                    var seen = 0;
                    await using var move = await Move.PrepareAsync();
                    move.Hosts.Script = (at, what) => at == agent && what == task && ++seen == which ? mishap : Mishap.None;
                    var done = await move.RunAsync(cold);
                    move.AssertSettled(done, $"{agent} {task} {mishap} {which}");
                }
            }
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_controller_that_restarts_at_any_step_goes_on(bool cold)
    {
        for (var at = 1; at <= 12; at++)
        {
            await using var move = await Move.PrepareAsync();
            var (count, due) = (0, at);
            var reached = new TaskCompletionSource();
            move.Hosts.Before = (_, _) =>
            {
                if (++count == due) reached.TrySetResult();
            };
            var job = await move.StartAsync(cold);
            await Task.WhenAny(reached.Task, move.WaitAsync(job));
            await move.RestartControllerAsync();
            move.AssertMoved(await move.WaitAsync(job));
        }
    }

    [Fact]
    public async Task A_machine_that_was_stopped_unheard_counts_as_one_that_ran()
    {
        await using var move = await Move.PrepareAsync();
        var stops = 0;
        move.Hosts.Script = (agent, task) => agent == "source" && task == TaskCase.StopMachine && ++stops == 1 ? Mishap.DiesUnheard : Mishap.None;
        move.AssertMoved(await move.RunAsync(cold: false));
        Assert.Equal(2, stops);
    }

    [Fact]
    public async Task The_target_starts_only_when_the_source_is_known_to_be_retired()
    {
        await using var move = await Move.PrepareAsync();
        move.Hosts.Before = (agent, task) => move.SourceAgent.Away |= agent == "source" && task == TaskCase.StopMachine;
        move.Hosts.Script = (agent, task) => agent == "source" && task == TaskCase.StopMachine ? Mishap.DiesBehind : Mishap.None;
        var job = await move.StartAsync(cold: false);
        await move.PollAsync(() => move.Hosts["source"] == Copy.Stopped);
        await Task.Delay(300, World.Token);
        Assert.DoesNotContain("target:StartMachine", move.Hosts.Done);
        move.Hosts.Script = static (_, _) => Mishap.None;
        move.Hosts.Before = null;
        move.SourceAgent.Away = false;
        move.AssertSettled(await move.WaitAsync(job), "away");
    }

    [Fact]
    public async Task The_source_comes_back_only_when_a_target_that_may_run_is_known_to_be_gone()
    {
        await using var move = await Move.PrepareAsync();
        move.Hosts.Script = (agent, task) => agent == "target" && task == TaskCase.StartMachine ? Mishap.FailsBehind : Mishap.None;
        move.Hosts.Before = (agent, task) => move.TargetAgent.Away |= agent == "target" && task == TaskCase.StartMachine;
        var job = await move.StartAsync(cold: false);
        await move.PollAsync(() => move.Hosts["target"] == Copy.Running);
        await Task.Delay(300, World.Token);
        Assert.NotEqual(Copy.Running, move.Hosts["source"]);
        move.Hosts.Before = null;
        move.TargetAgent.Away = false;
        move.AssertStayed(await move.WaitAsync(job));
    }

    [Fact]
    public async Task A_cancelled_migration_goes_back_and_a_second_one_of_the_same_machine_is_refused()
    {
        await using var move = await Move.PrepareAsync();
        move.SourceAgent.Away = true;
        await move.PollAsync(() => !move.World.Role.Connections.IsConnected("source"));
        var job = await move.StartAsync(cold: false);
        var refused = await Assert.ThrowsAsync<FaultException>(() => move.StartAsync(cold: false));
        Assert.Contains("being migrated already", refused.Message, StringComparison.Ordinal);
        await move.World.Role.Admin.CancelJobAsync(new CancelJobRequest { JobId = job }, World.Token);
        move.SourceAgent.Away = false;
        var done = await move.WaitAsync(job);
        Assert.Equal(JobState.Cancelled, done.State);
        Assert.Equal((Copy.Running, Copy.None), (move.Hosts["source"], move.Hosts["target"]));
    }

    [Fact]
    public async Task The_same_request_moves_a_machine_once_and_one_that_was_refused_never()
    {
        await using var move = await Move.PrepareAsync();
        move.SourceAgent.Away = true;
        await move.PollAsync(() => !move.World.Role.Connections.IsConnected("source"));
        var job = await move.StartAsync(cold: false, requestId: "once");
        Assert.Equal(job, await move.StartAsync(cold: false, requestId: "once"));
        await Assert.ThrowsAsync<FaultException>(() => move.StartAsync(cold: false, requestId: "twice"));
        move.SourceAgent.Away = false;
        move.AssertMoved(await move.WaitAsync(job));
        Assert.Single(move.Hosts.Done, "target:StartMachine");
        // That request is over; it begins nothing now that nothing stands in its way.
        var refused = await move.StartAsync(cold: false, options => options.Agent = "source", "twice");
        Assert.Equal(JobState.Failed, (await move.World.GetJobAsync(refused)).State);
        await Assert.ThrowsAsync<FaultException>(() => move.World.Role.Migrations.GetMigrationAsync(new GetMigrationRequest { MigrationId = refused }, World.Token).AsTask());
    }

    [Fact]
    public async Task What_is_there_again_or_on_its_way_back_is_not_removed()
    {
        await using var move = await Move.PrepareAsync();
        var done = await move.RunAsync(cold: false);
        var remove = new RemoveMigratedSourceRequest { MigrationId = done.MigrationId };
        var row = (await move.World.Role.Catalog.Migrations.FindAsync(Id16.Parse(done.MigrationId), World.Token))!;
        var back = row with { MigrationId = Id16.Create(SystemEntropy.Instance), SourceAgent = "target", TargetAgent = "source", State = Catalog.JobPhase.Running };
        Assert.True(await move.World.Role.Catalog.Migrations.AddAsync(back, World.Token));
        Assert.Contains("is being migrated", (await Assert.ThrowsAsync<FaultException>(() => move.World.Role.Migrations.RemoveMigratedSourceAsync(remove, World.Token).AsTask())).Message, StringComparison.Ordinal);
        await move.World.Role.Catalog.Migrations.SaveAsync(back with { State = Catalog.JobPhase.Succeeded }, World.Token);
        await move.World.Role.Catalog.Machines.MoveAsync(row.VmId, "source", World.Token);
        Assert.Contains("is on source again", (await Assert.ThrowsAsync<FaultException>(() => move.World.Role.Migrations.RemoveMigratedSourceAsync(remove, World.Token).AsTask())).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_machine_that_was_off_stays_off_wherever_it_ends(bool removes)
    {
        await using (var move = await Move.PrepareAsync(Copy.Stopped))
        {
            var done = await move.RunAsync(cold: true, options => options.RemoveSource = removes);
            Assert.True(done.State == JobState.Succeeded, done.FailureMessage);
            Assert.Equal((removes ? Copy.None : Copy.Retired, Copy.Stopped), (move.Hosts["source"], move.Hosts["target"]));
            Assert.Equal((removes ? "removed" : "retired", "stopped", 0.0), (done.SourceCopy, done.TargetCopy, done.Result.DowntimeSeconds));
            Assert.Equal("target", (await move.World.Role.Admin.GetVirtualMachineAsync(new GetVirtualMachineRequest { Vm = move.Source.VmName }, World.Token)).VirtualMachine.Agent);
        }
        foreach (var (agent, task) in new[] { ("source", TaskCase.Backup), ("target", TaskCase.Restore), ("source", TaskCase.RetireMachine) })
        {
            await using var move = await Move.PrepareAsync(Copy.Stopped);
            move.Hosts.Script = (at, what) => at == agent && what == task ? Mishap.Fails : Mishap.None;
            if (task == TaskCase.RetireMachine)
            {
                // It can be brought back, though.
                var seen = 0;
                move.Hosts.Script = (at, what) => at == agent && what == task && ++seen <= 3 ? Mishap.FailsBehind : Mishap.None;
            }
            Assert.Equal(JobState.Failed, (await move.RunAsync(cold: true)).State);
            Assert.Equal((Copy.Stopped, Copy.None), (move.Hosts["source"], move.Hosts["target"]));
            Assert.DoesNotContain(move.Hosts.Done, static done => done.EndsWith(":StartMachine", StringComparison.Ordinal));
        }
    }

    [Fact]
    public async Task Options_that_say_nothing_or_too_much_are_refused()
    {
        await using var move = await Move.PrepareAsync();
        foreach (var options in new[]
        {
            new MigrationOptions(), new MigrationOptions { Agent = "target" }, new MigrationOptions { Agent = "nobody", Restore = new RestoreOptions { Folder = "/x" } },
            new MigrationOptions { Agent = "source", Restore = new RestoreOptions { Folder = "/x" } }, new MigrationOptions { Storage = new StorageMoveOptions() },
            new MigrationOptions { Agent = "target", Restore = new RestoreOptions { Folder = "/x" }, RoundsMax = 65 },
            new MigrationOptions { Agent = "target", Restore = new RestoreOptions { Folder = "/x", OnlyDisks = { "vda" } } },
            new MigrationOptions { Agent = "target", Restore = new RestoreOptions { Folder = "/x", WithState = true } },
            new MigrationOptions { Agent = "target", Restore = new RestoreOptions { Folder = new string('x', 5000) } },
        })
        {
            await Assert.ThrowsAsync<FaultException>(() => move.World.Role.Migrations.StartMigrationAsync(new StartMigrationRequest { Vm = move.Source.VmName, Options = options }, World.Token).AsTask());
        }
    }

    /// <summary>A machine on the host of one agent, and another agent that it can go to.</summary>
    private sealed class Move : IAsyncDisposable
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

        private static async Task PollAsync(Func<Task<bool>> isSo)
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
}
