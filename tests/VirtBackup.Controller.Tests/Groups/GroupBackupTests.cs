using Google.Protobuf;
using VirtBackup.Catalog;
using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;
using static VirtBackup.Controller.Tests.EnrollmentTests;
using State = VirtBackup.Protocol.Admin.V1.GroupPointMember.Types.State;

namespace VirtBackup.Controller.Tests.Groups;

/// <summary>Two agents with a machine each, one group, and the controller's side of its backup.</summary>
public sealed class GroupBackupTests
{
    private static readonly AgentCapabilities Able = new() { BackupOptions = (uint)BackupOptions.GroupRunIdFieldNumber };

    [Fact]
    public async Task Two_machines_are_cut_together_and_stored()
    {
        await using var site = await Site.CreateAsync();
        var job = await site.StartAsync();
        var assigned = await site.PassAllAsync(held: true);
        foreach (var (agent, task) in site.Agents.Zip(assigned))
        {
            await Site.StoreAsync(agent, task);
        }
        var ended = await site.EndAsync(job);
        Assert.Equal(("", JobState.Succeeded), (ended.FailureMessage, ended.State));
        var point = ended.Result.GroupBackup;
        Assert.True(point is { Consistent: true, Complete: true, Inconsistency: "" } && point.Members.All(member => member is { Held: true, State: State.Stored }));

        // What expires of it leaves an incomplete one.
        await site.World.Role.Admin.ForgetRecoveryPointAsync(new ForgetRecoveryPointRequest { Point = point.Members[0].PointId }, World.Token);
        var found = (await site.World.Role.Groups.GetGroupPointAsync(new GetGroupPointRequest { GroupPoint = "shop@latest" }, World.Token)).GroupPoint;
        Assert.Equal((point.GroupPointId, false, false), (found.GroupPointId, found.Complete, found.Consistent));
        Assert.Equal((State.Forgotten, State.Stored), (found.Members.Single(member => member.PointId == point.Members[0].PointId).State, found.Members.Single(member => member.PointId != point.Members[0].PointId).State));
        var shown = await site.World.Role.Groups.GetGroupAsync(new GetGroupRequest { Name = "shop" }, World.Token);
        Assert.Equal((1U, found), (shown.Group.GroupPoints, Assert.Single(shown.GroupPoints)));
        Assert.Equal(found, (await site.World.Role.Groups.GetGroupPointAsync(new GetGroupPointRequest { GroupPoint = found.GroupPointId[..8] }, World.Token)).GroupPoint);
    }

    [Fact]
    public async Task One_that_fails_before_the_cut_ends_it_for_all_and_is_named()
    {
        await using var site = await Site.CreateAsync();
        var job = await site.StartAsync();
        var assigned = await site.ReceiveAsync(CutStep.Unspecified);
        await site.ReachAsync(assigned, CutStep.Ready);
        await site.ReceiveAsync(CutStep.Ready);
        await site.Agents[1].ReportAsync(assigned[1].JobId, 1, JobState.Failed, report => (report.FailureMessage, report.CutStep) = ("The fleece folder is full.", CutStep.Ready));
        // The other one has nothing to do any more: its agent lets the guest go.
        await site.Streams[0].ReceiveAssignmentsAsync(list => list.Jobs.Count == 0);
        var ended = await site.EndAsync(job);
        Assert.Equal(JobState.Failed, ended.State);
        Assert.Contains("vm-of-host-2: The fleece folder is full.", ended.FailureMessage, StringComparison.Ordinal);
        var other = await site.World.GetJobAsync(assigned[0].JobId);
        Assert.Equal((JobState.Failed, "The group 'shop' was not cut: vm-of-host-2: The fleece folder is full."), (other.State, other.FailureMessage));
        Assert.Equal("The fleece folder is full.", (await site.World.GetJobAsync(assigned[1].JobId)).FailureMessage);
        Assert.Empty((await site.World.Role.Groups.GetGroupAsync(new GetGroupRequest { Name = "shop" }, World.Token)).GroupPoints);
    }

    [Fact]
    public async Task A_link_that_breaks_while_guests_stand_still_ends_the_cut()
    {
        await using var site = await Site.CreateAsync();
        var job = await site.StartAsync();
        var assigned = await site.PassAsync(CutStep.Frozen);
        await site.BreakAsync(1);
        await site.Streams[0].ReceiveAssignmentsAsync(list => list.Jobs.Count == 0);
        var ended = await site.EndAsync(job);
        Assert.Contains("vm-of-host-2: the connection to its agent 'host-2' was lost", ended.FailureMessage, StringComparison.Ordinal);
        // What the agent says when it comes back is refused.
        await RefusedAsync(FaultReason.Fenced, () => site.Agents[1].ReportAsync(assigned[1].JobId, 1, JobState.Running, report => report.CutStep = CutStep.Cut));
    }

    [Fact]
    public async Task A_controller_that_was_restarted_during_the_cut_ends_it()
    {
        await using var site = await Site.CreateAsync();
        await site.StartAsync();
        var assigned = await site.PassAsync(CutStep.Frozen);
        await site.RestartAsync();
        await using var stream = await ControlStream.OpenAsync(site.Agents[0], site.Boots[0], Able);
        Assert.Empty((await stream.ReceiveAssignmentsAsync(_ => true)).Jobs);
        var ended = await site.World.GetJobAsync(assigned[0].JobId);
        Assert.Equal((JobState.Failed, true), (ended.State, ended.FailureMessage.Contains("was not cut", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task What_was_cut_goes_on_when_the_controller_is_restarted()
    {
        await using var site = await Site.CreateAsync();
        await site.StartAsync();
        var assigned = await site.PassAllAsync(held: true);
        await site.RestartAsync();
        foreach (var work in assigned)
        {
            var job = await site.World.Role.Jobs.GetAsync(Id16.Parse(work.JobId), World.Token);
            Assert.Equal((false, JobPhase.Running), (job.CancelRequested, job.State));
        }
    }

    [Fact]
    public async Task A_cancelled_group_backup_cancels_what_was_cut()
    {
        await using var site = await Site.CreateAsync();
        var job = await site.StartAsync();
        var assigned = await site.PassAllAsync(held: true);
        await site.World.Role.Admin.CancelJobAsync(new CancelJobRequest { JobId = job.JobId }, World.Token);
        Assert.Equal(JobState.Cancelled, (await site.EndAsync(job)).State);
        foreach (var work in assigned)
        {
            Assert.True((await site.World.Role.Jobs.GetAsync(Id16.Parse(work.JobId), World.Token)).CancelRequested);
        }
    }

    [Fact]
    public async Task The_same_request_backs_a_group_up_once()
    {
        await using var site = await Site.CreateAsync();
        var job = await site.StartAsync("once");
        Assert.Equal(job.JobId, (await site.StartAsync("once")).JobId);
        var assigned = await site.PassAllAsync(held: true);
        Assert.Equal(job.JobId, (await site.StartAsync("once")).JobId);
        foreach (var (agent, task) in site.Agents.Zip(assigned))
        {
            await Site.StoreAsync(agent, task);
        }
        Assert.Equal(JobState.Succeeded, (await site.EndAsync(job)).State);
        Assert.Equal(JobState.Succeeded, (await site.StartAsync("once")).State);
        Assert.Single((await site.World.Role.Groups.GetGroupAsync(new GetGroupRequest { Name = "shop" }, World.Token)).GroupPoints);
    }

    [Fact]
    public async Task A_controller_that_was_killed_during_the_cut_ends_it_at_its_next_start()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var run = new GroupRunRow
        {
            RunId = Id16.Create(SystemEntropy.Instance), Group = "shop", StartedMs = 1, SkewBoundMs = 1000,
            Members = [new GroupRunMember(agent.VmId, agent.VmName, agent.Name, Id16.Create(SystemEntropy.Instance), Id16.Create(SystemEntropy.Instance), Held: false)],
        };
        await world.Role.Catalog.GroupRuns.SaveAsync(run, World.Token);
        await world.Role.Jobs.CreateAsync(
            new JobRow
            {
                JobId = run.Members[0].JobId, Kind = JobKind.Backup, Agent = agent.Name, VmId = agent.VmId, VmName = agent.VmName, PointId = run.Members[0].PointId,
                Options = new BackupOptions { GroupRunId = run.RunId.ToString() }.ToByteArray(), CreatedMs = 1,
            }, World.Token);
        await world.RestartAsync();
        Assert.Equal("The group 'shop' was not cut: the controller was restarted during the cut.", (await world.GetJobAsync(run.Members[0].JobId.ToString())).FailureMessage);
        Assert.Equal(GroupCutPhase.Failed, (await world.Role.Catalog.GroupRuns.FindAsync(run.RunId, World.Token))!.Phase);
    }

    [Fact]
    public async Task Behind_the_cut_each_machine_is_for_itself()
    {
        await using var site = await Site.CreateAsync();
        var job = await site.StartAsync();
        var assigned = await site.PassAllAsync(held: true);
        await Site.StoreAsync(site.Agents[0], assigned[0]);
        // Its process is gone: the machine is not cut a second time, by itself.
        await using var stream = await ControlStream.OpenAsync(site.Agents[1], Id16.Create(SystemEntropy.Instance), Able);
        Assert.Empty((await stream.ReceiveAssignmentsAsync(_ => true)).Jobs);
        var ended = await site.EndAsync(job);
        Assert.Contains("not complete. vm-of-host-2 has no recovery point of this cut.", ended.FailureMessage, StringComparison.Ordinal);
        var point = (await site.World.Role.Groups.GetGroupPointAsync(new GetGroupPointRequest { GroupPoint = job.JobId }, World.Token)).GroupPoint;
        Assert.Equal((false, State.Stored, State.Failed), (point.Complete, point.Members[0].State, point.Members[1].State));
    }

    [Theory]
    [InlineData(true, 2000, false, "may lie 2000 ms apart")]
    [InlineData(false, 0, false, "vm-of-host-1 is not known to have stood still")]
    [InlineData(true, 0, true, "vm-of-host-1 was cut anew")]
    public async Task A_doubtful_cut_is_not_called_consistent(bool held, int skewMs, bool cutAnew, string why)
    {
        await using var site = await Site.CreateAsync();
        var job = await site.StartAsync();
        var assigned = await site.PassAllAsync(held, TimeSpan.FromMilliseconds(skewMs));
        foreach (var (agent, task) in site.Agents.Zip(assigned))
        {
            await Site.StoreAsync(agent, task, cutAnew);
        }
        var ended = await site.EndAsync(job);
        Assert.Equal(JobState.Failed, ended.State);
        Assert.Contains("is not consistent. ", ended.FailureMessage, StringComparison.Ordinal);
        Assert.Contains(why, ended.FailureMessage, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_agent_that_cannot_wait_is_refused_before_anything_begins()
    {
        await using var site = await Site.CreateAsync(new AgentCapabilities { BackupOptions = 8 });
        var ended = await site.EndAsync(await site.StartAsync());
        Assert.Contains("does not know group_run_id", ended.FailureMessage, StringComparison.Ordinal);
        Assert.All((await site.World.Role.Admin.ListJobsAsync(new ListJobsRequest { RunningOnly = true }, World.Token)).Jobs, job => Assert.Equal("group-backup", job.Kind));
        await RefusedAsync(FaultReason.InvalidArgument, () => site.World.Role.Admin.StartBackupAsync(
            new StartBackupRequest { Vm = site.Agents[0].VmName, Options = new BackupOptions { GroupRunId = "1" } }, World.Token).AsTask());
    }

    [Fact]
    public async Task Groups_are_made_changed_and_deleted()
    {
        await using var site = await Site.CreateAsync();
        var groups = site.World.Role.Groups;
        await RefusedAsync(FaultReason.AlreadyExists, () => groups.CreateGroupAsync(new CreateGroupRequest { Name = "shop" }, World.Token).AsTask());
        await RefusedAsync(FaultReason.InvalidArgument, () => groups.CreateGroupAsync(new CreateGroupRequest { Name = "a b" }, World.Token).AsTask());
        await RefusedAsync(FaultReason.InvalidArgument, () => groups.ChangeGroupAsync(new ChangeGroupRequest { Name = "shop", SkewBoundMs = 60_001 }, World.Token).AsTask());
        await RefusedAsync(FaultReason.NotFound, () => groups.ChangeGroupAsync(new ChangeGroupRequest { Name = "shop", AddVms = { "nobody" } }, World.Token).AsTask());
        var changed = (await groups.ChangeGroupAsync(new ChangeGroupRequest { Name = "shop", RemoveVms = { "vm-of-host-1" }, SkewBoundMs = 250 }, World.Token)).Group;
        Assert.Equal((250U, "vm-of-host-2"), (changed.SkewBoundMs, Assert.Single(changed.Members).VmName));
        await RefusedAsync(FaultReason.NotFound, () => groups.ChangeGroupAsync(new ChangeGroupRequest { Name = "shop", RemoveVms = { "vm-of-host-1" } }, World.Token).AsTask());
        await groups.ChangeGroupAsync(new ChangeGroupRequest { Name = "shop", RemoveVms = { "vm-of-host-2" } }, World.Token);
        await RefusedAsync(FaultReason.FailedPrecondition, () => site.StartAsync());
        await groups.DeleteGroupAsync(new DeleteGroupRequest { Name = "shop" }, World.Token);
        Assert.Empty((await groups.ListGroupsAsync(World.Token)).Groups);
        await RefusedAsync(FaultReason.NotFound, () => site.StartAsync());
    }
}
