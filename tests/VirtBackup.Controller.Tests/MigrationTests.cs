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
        await move.World.Role.Catalog.Machines.MoveAsync(row.VmId, "source", running: true, World.Token);
        Assert.Contains("is on source again", (await Assert.ThrowsAsync<FaultException>(() => move.World.Role.Migrations.RemoveMigratedSourceAsync(remove, World.Token).AsTask())).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_an_older_migration_left_is_the_newest_ones_and_gone_with_it()
    {
        await using var move = await Move.PrepareAsync();
        var older = await move.RunAsync(cold: false);
        var row = (await move.World.Role.Catalog.Migrations.FindAsync(Id16.Parse(older.MigrationId), World.Token))!;
        var newer = row with { MigrationId = Id16.Create(SystemEntropy.Instance), CreatedMs = row.CreatedMs + 1 };
        var its = new Catalog.JobRow { JobId = newer.MigrationId, Kind = Catalog.JobKind.Migration, VmId = row.VmId, VmName = row.VmName, State = Catalog.JobPhase.Succeeded, CreatedMs = newer.CreatedMs };
        await move.World.Role.Catalog.Jobs.AddAsync(its, World.Token);
        await move.World.Role.Catalog.Migrations.SaveAsync(newer, World.Token);
        move.World.Time.Advance(TimeSpan.FromSeconds(1));
        Task<RemoveMigratedSourceResponse> RemoveAsync(string id) => move.World.Role.Migrations.RemoveMigratedSourceAsync(new RemoveMigratedSourceRequest { MigrationId = id }, World.Token).AsTask();
        Assert.Contains($"newer migration ({newer.MigrationId})", (await Assert.ThrowsAsync<FaultException>(() => RemoveAsync(older.MigrationId))).Message, StringComparison.Ordinal);
        var removing = (await RemoveAsync(newer.MigrationId.ToString())).Job.JobId;
        await Move.PollAsync(async () => (await move.World.GetJobAsync(removing)).State == JobState.Succeeded);
        foreach (var id in new[] { older.MigrationId, newer.MigrationId.ToString() })
        {
            Assert.Equal("removed", (await move.World.Role.Migrations.GetMigrationAsync(new GetMigrationRequest { MigrationId = id }, World.Token)).Migration.SourceCopy);
            Assert.Contains("left no copy", (await Assert.ThrowsAsync<FaultException>(() => RemoveAsync(id))).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task A_machine_that_was_off_and_was_not_told_to_stop_is_not_started()
    {
        await using var move = await Move.PrepareAsync(Copy.Stopped);
        move.SourceAgent.Away = true;
        await move.PollAsync(() => !move.World.Role.Connections.IsConnected("source"));
        var job = await move.StartAsync(cold: true);
        await Move.PollAsync(async () => (await move.World.Role.Migrations.GetMigrationAsync(new GetMigrationRequest { MigrationId = job }, World.Token)).Migration.Step.Contains("stopping", StringComparison.Ordinal));
        await move.World.Role.Admin.CancelJobAsync(new CancelJobRequest { JobId = job }, World.Token);
        Assert.Equal(JobState.Cancelled, (await move.WaitAsync(job)).State);
        move.SourceAgent.Away = false;
        Assert.Equal((Copy.Stopped, Copy.None), (move.Hosts["source"], move.Hosts["target"]));
        Assert.DoesNotContain(move.Hosts.Done, static done => done.EndsWith(":StartMachine", StringComparison.Ordinal));
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
            var machine = (await move.World.Role.Admin.GetVirtualMachineAsync(new GetVirtualMachineRequest { Vm = move.Source.VmName }, World.Token)).VirtualMachine;
            Assert.Equal(("target", false), (machine.Agent, machine.Running));
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
}
