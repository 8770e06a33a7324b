using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Repository.Collection;
using VirtBackup.Testing.Stores;
using static VirtBackup.Controller.Tests.EnrollmentTests;
using static VirtBackup.Controller.Tests.StoreTests;

namespace VirtBackup.Controller.Tests;

/// <summary>Agents that die around a commit. A point that exists is listed, and the job that made it has succeeded.</summary>
public sealed class DeadAgentTests
{
    private static Id16 NewId() => Id16.Create(SystemEntropy.Instance);

    [Fact]
    public async Task A_commit_is_completed_although_its_agent_dies_when_the_manifest_has_its_name()
    {
        using var call = CancellationTokenSource.CreateLinkedTokenSource(World.Token);
        await using var world = await World.CreateAsync(operation =>
        {
            if (operation.Step == SimulatedStep.SyncFolder && operation.Key!.StartsWith(ObjectKeys.RecoveryPointsPrefix, StringComparison.Ordinal))
            {
                call.Cancel();
            }
            return null;
        });
        var agent = await world.EnrollAsync();
        var (job, backup) = await UploadAsync(agent);
        var committed = await Record.ExceptionAsync(() => backup.CommitAsync(call: call.Token));
        Assert.True(call.IsCancellationRequested);
        Assert.True(committed is null or OperationCanceledException, committed?.ToString());
        await AssertSucceedsAsync(agent, job);
    }

    [Fact]
    public async Task A_commit_under_way_is_awaited_before_the_next_attempt_is_made()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var (job, backup) = await UploadAsync(agent);
        var end = world.Role.Jobs.AttemptEnded!;
        var calls = 0;
        // As a session does that ends while its commit is under way: it ends when the commit has.
        world.Role.Jobs.AttemptEnded = async ended =>
        {
            if (++calls == 1)
            {
                await backup.CommitAsync();
            }
            await end(ended);
        };
        await AssertSucceedsAsync(agent, job);
    }

    [Fact]
    public async Task A_point_that_a_dead_agent_has_opened_can_be_purged()
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(World.Token);
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var point = (await BackUpAsync(agent, NewDisk())).PointId;
        var job = (await world.Role.Admin.StartRestoreAsync(new StartRestoreRequest { Point = point, Agent = agent.Name }, World.Token)).Job;
        (await ReadManifestAsync(agent, job, point)).Grant.Dispose();
        await world.Role.Admin.ForgetRecoveryPointAsync(new ForgetRecoveryPointRequest { Point = point }, World.Token);
        world.Time.Advance(TimeSpan.FromHours(25));
        Assert.Equal(1, (await world.Repository.CollectAsync(new CollectionOptions(), World.Token)).PointsKept);
        var sweeping = world.Role.Store.RunAsync(stop.Token);
        for (var i = 0; (await world.Repository.CollectAsync(new CollectionOptions(), World.Token)).PointsPurged == 0; i++)
        {
            Assert.True(i < 500, "The point is kept for ever.");
            world.Time.Advance(TimeSpan.FromMinutes(1));
            await Task.Delay(10, World.Token);
        }
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => sweeping);
    }

    [Fact]
    public async Task A_new_process_is_noticed_on_the_next_connection_when_the_first_broke_off()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var (job, _) = await UploadAsync(agent);
        var end = world.Role.Jobs.AttemptEnded!;
        world.Role.Jobs.AttemptEnded = _ => throw new FaultException(FaultReason.Unavailable, "The connection broke.");
        var process = NewId();
        await RefusedAsync(FaultReason.Unavailable, async () =>
        {
            await using var broken = ControlStream.OpenSilently(agent);
            await broken.SendAsync(new Protocol.Agent.V1.ConnectRequest { Hello = new Protocol.Agent.V1.AgentHello { Version = "1", BootId = process.ToString() } });
            await broken.Served;
        });
        world.Role.Jobs.AttemptEnded = end;
        await using var control = await ControlStream.OpenAsync(agent, process);
        var assigned = Assert.Single((await control.ReceiveAssignmentsAsync(assignments => assignments.Jobs.Count == 1)).Jobs);
        Assert.Equal((job.JobId, 2UL), (assigned.JobId, assigned.Attempt));
    }

    /// <summary>A running backup of which all but the commit is done.</summary>
    private static async Task<(Job Job, SealedBackup Backup)> UploadAsync(TestAgent agent)
    {
        var job = await agent.World.StartBackupAsync(agent);
        await agent.ReportAsync(job.JobId, 1, JobState.Running);
        var backup = new SealedBackup(agent, await BeginAsync(agent, job), Id16.Parse(job.PointId), 1, NewDisk());
        await backup.UploadAsync();
        return (job, backup);
    }

    private static async Task AssertSucceedsAsync(TestAgent agent, Job job)
    {
        await using var control = await ControlStream.OpenAsync(agent, NewId());
        Assert.Empty((await control.ReceiveAssignmentsAsync(_ => true)).Jobs);
        Assert.Equal(JobState.Succeeded, (await agent.World.GetJobAsync(job.JobId)).State);
        Assert.Equal(job.PointId, Assert.Single((await agent.World.Role.Admin.ListRecoveryPointsAsync(new ListRecoveryPointsRequest(), World.Token)).RecoveryPoints).PointId);
    }
}
