using VirtBackup.Controller.Control;
using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;
using static VirtBackup.Controller.Tests.EnrollmentTests;

namespace VirtBackup.Controller.Tests;

public sealed class JobTests
{
    private static Id16 NewId() => Id16.Create(SystemEntropy.Instance);

    [Fact]
    public async Task A_job_is_announced_run_reported_and_watched()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        await using var control = await ControlStream.OpenAsync(agent, NewId());
        var plan = (await world.Role.Admin.StartBackupPlanAsync(new StartBackupPlanRequest { Vm = agent.VmName }, World.Token)).Job;
        var assigned = Assert.Single((await control.ReceiveAssignmentsAsync(assignments => assignments.Jobs.Count == 1)).Jobs);
        Assert.Equal((plan.JobId, 1UL, agent.VmId.ToString()), (assigned.JobId, assigned.Attempt, assigned.PlanBackup.VmId));

        await using var watch = world.Role.Admin.WatchJobAsync(new WatchJobRequest { JobId = plan.JobId }, World.Token).GetAsyncEnumerator(World.Token);
        Assert.True(await watch.MoveNextAsync());
        Assert.Equal(JobState.Queued, watch.Current.Job.State);
        await control.SendAsync(new ConnectRequest { JobReport = new JobReport { JobId = plan.JobId, Attempt = 1, State = JobState.Running, LogLines = { "looking" }, Progress = new Progress { Phase = "plan" } } });
        Assert.True(await watch.MoveNextAsync());
        Assert.Equal((JobState.Running, "plan"), (watch.Current.Job.State, watch.Current.Job.Progress.Phase));
        await control.SendAsync(new ConnectRequest { JobReport = new JobReport { JobId = plan.JobId, Attempt = 1, State = JobState.Succeeded, PlanBackup = new BackupPlan { FleeceBytesMax = 7 } } });
        Assert.True(await watch.MoveNextAsync());
        Assert.Equal(7UL, watch.Current.Job.Result.BackupPlan.FleeceBytesMax);
        Assert.False(await watch.MoveNextAsync());
        await control.ReceiveAssignmentsAsync(assignments => assignments.Jobs.Count == 0);
        var log = await world.Role.Admin.GetJobLogAsync(new GetJobLogRequest { JobId = plan.JobId[..8] }, World.Token);
        Assert.Equal("looking", Assert.Single(log.Lines).Text);
    }

    [Fact]
    public async Task A_request_id_starts_one_job_and_a_machine_has_one_backup_at_a_time()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var first = await world.StartBackupAsync(agent, "r1");
        Assert.Equal(first.JobId, (await world.StartBackupAsync(agent, "r1")).JobId);
        await RefusedAsync(FaultReason.FailedPrecondition, () => world.StartBackupAsync(agent, "r2"));
        await agent.ReportAsync(first.JobId, 1, JobState.Failed, report => report.FailureMessage = "no");
        Assert.NotEqual(first.JobId, (await world.StartBackupAsync(agent, "r2")).JobId);
        Assert.Equal("no", (await world.GetJobAsync(first.JobId)).FailureMessage);
    }

    [Fact]
    public async Task A_new_process_gets_the_next_attempt_and_the_third_is_the_last()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var job = await world.StartBackupAsync(agent);
        for (var attempt = 1UL; attempt <= JobService.AttemptsMax; attempt++)
        {
            await using var control = await ControlStream.OpenAsync(agent, NewId());
            var assigned = Assert.Single((await control.ReceiveAssignmentsAsync(assignments => assignments.Jobs.Count == 1)).Jobs);
            Assert.Equal((attempt, job.PointId), (assigned.Attempt, assigned.Backup.PointId));
            if (attempt > 1)
            {
                await RefusedAsync(FaultReason.Fenced, () => agent.ReportAsync(job.JobId, attempt - 1, JobState.Running));
            }
            await agent.ReportAsync(job.JobId, attempt, JobState.Running);
        }
        await using var last = await ControlStream.OpenAsync(agent, NewId());
        Assert.Empty((await last.ReceiveAssignmentsAsync(_ => true)).Jobs);
        Assert.Equal(JobState.Failed, (await world.GetJobAsync(job.JobId)).State);
    }

    [Fact]
    public async Task The_same_process_keeps_its_attempt_across_connections_and_restarts_of_the_controller()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var bootId = NewId();
        var job = await world.StartBackupAsync(agent);
        await using (await ControlStream.OpenAsync(agent, bootId))
        {
            await agent.ReportAsync(job.JobId, 1, JobState.Running);
        }
        await using (var control = await ControlStream.OpenAsync(agent, bootId))
        {
            Assert.Equal(1UL, Assert.Single((await control.ReceiveAssignmentsAsync(_ => true)).Jobs).Attempt);
        }
        await world.RestartAsync();
        await using var after = await ControlStream.OpenAsync(agent, bootId);
        Assert.Equal((job.JobId, 1UL), Assert.Single((await after.ReceiveAssignmentsAsync(_ => true)).Jobs) is { } same ? (same.JobId, same.Attempt) : default);
        Assert.Equal(JobState.Running, (await world.GetJobAsync(job.JobId)).State);
    }

    [Fact]
    public async Task The_newest_connection_wins_and_silence_ends_one()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var bootId = NewId();
        await using var older = await ControlStream.OpenAsync(agent, bootId);
        await using var newer = await ControlStream.OpenAsync(agent, bootId);
        await RefusedAsync(FaultReason.Fenced, () => older.Served);
        Assert.True(world.Role.Connections.IsConnected(agent.Name));
        world.Time.Advance(AgentEndpoint.SilenceMax);
        await RefusedAsync(FaultReason.Unavailable, () => newer.Served);
        Assert.False(world.Role.Connections.IsConnected(agent.Name));
    }

    [Fact]
    public async Task A_stream_must_begin_with_a_hello()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        await using var control = ControlStream.OpenSilently(agent);
        await control.SendAsync(new ConnectRequest { Heartbeat = new Heartbeat() });
        await RefusedAsync(FaultReason.FailedPrecondition, () => control.Served);
    }

    [Fact]
    public async Task Options_that_an_agent_does_not_know_are_refused_whether_it_is_connected_or_connects_later()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var point = (await StoreTests.BackUpAsync(agent, StoreTests.NewDisk())).PointId;
        async Task<Protocol.Admin.V1.Job> StartAsync(RestoreOptions options) =>
            (await world.Role.Admin.StartRestoreAsync(new StartRestoreRequest { Point = point, Agent = agent.Name, Options = options }, World.Token)).Job;
        var inPlace = new RestoreOptions { Placement = RestorePlacement.InPlace };

        var waiting = await StartAsync(inPlace);
        await using (await ControlStream.OpenAsync(agent, NewId()))
        {
            var ended = await world.GetJobAsync(waiting.JobId);
            Assert.Equal((JobState.Failed, ErrorReason.Unsupported), (ended.State, ended.FailureReason));
            Assert.Contains("placement", ended.FailureMessage, StringComparison.Ordinal);
            Assert.Contains("Update the agent to version ", ended.FailureMessage, StringComparison.Ordinal);
            await RefusedAsync(FaultReason.Unsupported, () => StartAsync(inPlace));
            // What means the same without the option, or would be left out anyway.
            Assert.Equal(JobState.Queued, (await StartAsync(new RestoreOptions { Folder = "/new", Placement = RestorePlacement.New, SkipSample = true })).State);
        }
        await using var newer = await ControlStream.OpenAsync(agent, NewId(), new AgentCapabilities { RestoreOptions = (uint)RestoreOptions.PlacementFieldNumber });
        Assert.Equal(JobState.Queued, (await StartAsync(inPlace)).State);
        await RefusedAsync(FaultReason.Unsupported, () => StartAsync(new RestoreOptions { Placement = RestorePlacement.Replace, KeepReplaced = true }));
    }

    [Fact]
    public async Task A_queued_job_is_cancelled_at_once_and_a_running_one_by_its_agent()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        await using var control = await ControlStream.OpenAsync(agent, NewId());
        var queued = await world.StartBackupAsync(agent);
        var cancelled = (await world.Role.Admin.CancelJobAsync(new CancelJobRequest { JobId = queued.JobId }, World.Token)).Job;
        Assert.Equal(JobState.Cancelled, cancelled.State);
        var running = await world.StartBackupAsync(agent);
        await agent.ReportAsync(running.JobId, 1, JobState.Running);
        var asked = (await world.Role.Admin.CancelJobAsync(new CancelJobRequest { JobId = running.JobId }, World.Token)).Job;
        Assert.Equal((JobState.Running, true), (asked.State, asked.CancelRequested));
        await control.ReceiveAssignmentsAsync(assignments => assignments.Jobs.Any(job => job.JobId == running.JobId && job.Cancel));
        await agent.ReportAsync(running.JobId, 1, JobState.Cancelled);
        Assert.Equal(JobState.Cancelled, (await world.GetJobAsync(running.JobId)).State);
    }

    [Fact]
    public async Task An_agent_cannot_report_for_another_or_invent_success()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var other = await world.EnrollAsync("host-2");
        var job = await world.StartBackupAsync(agent);
        await RefusedAsync(FaultReason.Denied, () => other.ReportAsync(job.JobId, 1, JobState.Running));
        await agent.ReportAsync(job.JobId, 1, JobState.Succeeded, report => report.Backup = new BackupResult { PointId = job.PointId });
        var now = await world.GetJobAsync(job.JobId);
        Assert.Equal((JobState.Failed, ErrorReason.Incomplete), (now.State, now.FailureReason));
    }

    [Fact]
    public async Task A_machine_stays_with_its_connected_host()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var thief = await world.EnrollAsync("host-2");
        await using var control = await ControlStream.OpenAsync(agent, NewId());
        await using (var other = await ControlStream.OpenAsync(thief, NewId()))
        {
            await other.SendAsync(new ConnectRequest { Inventory = agent.NewInventory() });
            await other.GoodbyeAsync();
        }
        var machine = (await world.Role.Admin.GetVirtualMachineAsync(new GetVirtualMachineRequest { Vm = agent.VmName }, World.Token)).VirtualMachine;
        Assert.Equal(agent.Name, machine.Agent);
        await control.GoodbyeAsync();
        await using (var other = await ControlStream.OpenAsync(thief, NewId()))
        {
            await other.SendAsync(new ConnectRequest { Inventory = agent.NewInventory() });
            await other.GoodbyeAsync();
        }
        machine = (await world.Role.Admin.GetVirtualMachineAsync(new GetVirtualMachineRequest { Vm = agent.VmId.ToString()[..8] }, World.Token)).VirtualMachine;
        Assert.Equal(thief.Name, machine.Agent);
    }

    [Fact]
    public async Task Lists_are_paged_newest_first()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var made = new List<string>();
        for (var i = 0; i < 5; i++)
        {
            var job = await world.StartBackupAsync(agent);
            made.Insert(0, job.JobId);
            await agent.ReportAsync(job.JobId, 1, JobState.Cancelled);
        }
        var listed = new List<string>();
        var token = "";
        do
        {
            var page = await world.Role.Admin.ListJobsAsync(new ListJobsRequest { PageSize = 2, PageToken = token, Vm = agent.VmName }, World.Token);
            Assert.InRange(page.Jobs.Count, 1, 2);
            listed.AddRange(page.Jobs.Select(job => job.JobId));
            token = page.NextPageToken;
        }
        while (token.Length > 0);
        Assert.Equal(made, listed);
        await RefusedAsync(FaultReason.InvalidArgument, async () => await world.Role.Admin.ListJobsAsync(new ListJobsRequest { PageToken = "???" }, World.Token));
    }
}
