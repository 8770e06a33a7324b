using Google.Protobuf;
using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Protocol.Tests;

namespace VirtBackup.Controller.Tests;

/// <summary>Whatever a peer sends in well-formed protobuf, the answer is an answer or a fault, and the controller serves on.</summary>
public sealed class HostileMessageTests
{
    private const int Tries = 120;

    [Fact]
    public async Task Operators_requests()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var job = await world.StartBackupAsync(agent);
        var messages = new WireMessages(1, [agent.VmName, agent.VmId.ToString(), job.JobId, job.PointId, job.JobId[..6]]);
        var admin = world.Role.Admin;
        await SendAsync<CreateJoinTokenRequest>(messages, r => admin.CreateJoinTokenAsync(r, World.Token).AsTask());
        await SendAsync<ListAgentsRequest>(messages, r => admin.ListAgentsAsync(r, World.Token).AsTask());
        await SendAsync<RevokeAgentRequest>(messages, r => admin.RevokeAgentAsync(r, World.Token).AsTask());
        await SendAsync<ListVirtualMachinesRequest>(messages, r => admin.ListVirtualMachinesAsync(r, World.Token).AsTask());
        await SendAsync<GetVirtualMachineRequest>(messages, r => admin.GetVirtualMachineAsync(r, World.Token).AsTask());
        await SendAsync<ListRecoveryPointsRequest>(messages, r => admin.ListRecoveryPointsAsync(r, World.Token).AsTask());
        await SendAsync<GetRecoveryPointRequest>(messages, r => admin.GetRecoveryPointAsync(r, World.Token).AsTask());
        await SendAsync<ForgetRecoveryPointRequest>(messages, r => admin.ForgetRecoveryPointAsync(r, World.Token).AsTask());
        await SendAsync<StartBackupRequest>(messages, r => admin.StartBackupAsync(r, World.Token).AsTask());
        await SendAsync<StartBackupPlanRequest>(messages, r => admin.StartBackupPlanAsync(r, World.Token).AsTask());
        await SendAsync<StartRestoreRequest>(messages, r => admin.StartRestoreAsync(r, World.Token).AsTask());
        await SendAsync<StartRestoreCheckRequest>(messages, r => admin.StartRestoreCheckAsync(r, World.Token).AsTask());
        await SendAsync<StartVerifyRequest>(messages, r => admin.StartVerifyAsync(r, World.Token).AsTask());
        await SendAsync<ListJobsRequest>(messages, r => admin.ListJobsAsync(r, World.Token).AsTask());
        await SendAsync<GetJobRequest>(messages, r => admin.GetJobAsync(r, World.Token).AsTask());
        await SendAsync<CancelJobRequest>(messages, r => admin.CancelJobAsync(r, World.Token).AsTask());
        await SendAsync<GetJobLogRequest>(messages, r => admin.GetJobLogAsync(r, World.Token).AsTask());
        await SendAsync<WatchJobRequest>(messages, async r => await DrainAsync(admin.WatchJobAsync(r, World.Token), most: 1));
        var retention = world.Role.Retention;
        var alice = new Caller(Identity.PeerRole.Operator, "alice", Id16.Empty, Id16.Empty);
        await SendAsync<SetRuleSetRequest>(messages, r => retention.SetRuleSetAsync(r, World.Token).AsTask());
        await SendAsync<GetRuleSetRequest>(messages, r => retention.GetRuleSetAsync(r, World.Token).AsTask());
        await SendAsync<AttachRuleSetRequest>(messages, r => retention.AttachRuleSetAsync(r, World.Token).AsTask());
        await SendAsync<DetachRuleSetRequest>(messages, r => retention.DetachRuleSetAsync(r, World.Token).AsTask());
        await SendAsync<HoldPointRequest>(messages, r => retention.HoldPointAsync(alice, r, World.Token).AsTask());
        await SendAsync<ReleasePointRequest>(messages, r => retention.ReleasePointAsync(r, World.Token).AsTask());
        await SendAsync<LockPointRequest>(messages, r => retention.LockPointAsync(r, World.Token).AsTask());
        await SendAsync<SimulateRetentionRequest>(messages, r => retention.SimulateRetentionAsync(r, World.Token).AsTask());
        await SendAsync<StartRetentionRequest>(messages, r => retention.StartRetentionAsync(r, World.Token).AsTask());
        await SendAsync<ConfirmTimeRequest>(messages, r => retention.ConfirmTimeAsync(r, World.Token).AsTask());
        await SendAsync<DeleteRuleSetRequest>(messages, r => retention.DeleteRuleSetAsync(r, World.Token).AsTask());
        var groups = world.Role.Groups;
        await groups.CreateGroupAsync(new CreateGroupRequest { Name = agent.VmName, Vms = { agent.VmName } }, World.Token);
        await SendAsync<CreateGroupRequest>(messages, r => groups.CreateGroupAsync(r, World.Token).AsTask());
        await SendAsync<ChangeGroupRequest>(messages, r => groups.ChangeGroupAsync(r, World.Token).AsTask());
        await SendAsync<GetGroupRequest>(messages, r => groups.GetGroupAsync(r, World.Token).AsTask());
        await SendAsync<StartGroupBackupRequest>(messages, r => groups.StartGroupBackupAsync(r, World.Token).AsTask());
        await SendAsync<GetGroupPointRequest>(messages, r => groups.GetGroupPointAsync(r, World.Token).AsTask());
        await SendAsync<ListGroupsRequest>(messages, r => groups.ListGroupsAsync(World.Token).AsTask());
        await SendAsync<DeleteGroupRequest>(messages, r => groups.DeleteGroupAsync(r, World.Token).AsTask());
        Assert.Equal(1u, (await admin.GetStatusAsync(World.Token)).AgentsEnrolled);
        foreach (var assigned in world.Role.Jobs.GetAssignments(agent.Name).Jobs)
        {
            Assert.Equal(assigned.JobId, (await world.GetJobAsync(assigned.JobId)).JobId);
        }
    }

    [Fact]
    public async Task Operators_requests_about_several_machines()
    {
        await using var world = await World.CreateAsync();
        var source = await world.EnrollAsync("source");
        var target = await world.EnrollAsync("target");
        var point = (await StoreTests.BackUpAsync(source, StoreTests.NewDisk())).PointId;
        var move = new StartMigrationRequest { Vm = source.VmName, Options = new MigrationOptions { Agent = "target", Restore = new RestoreOptions { Folder = "/srv" } } };
        var migration = (await world.Role.Migrations.StartMigrationAsync(move, World.Token)).Job.JobId;
        var messages = new WireMessages(3, [source.VmName, target.VmName, source.VmId.ToString(), "source", "target", migration, migration[..6], point]);
        var recovery = world.Role.Recovery;
        await SendAsync<AddDependencyRequest>(messages, r => recovery.AddDependencyAsync(r, World.Token).AsTask());
        await SendAsync<SetProbeRequest>(messages, r => recovery.SetProbeAsync(r, World.Token).AsTask());
        await SendAsync<GetDependenciesRequest>(messages, r => recovery.GetDependenciesAsync(r, World.Token).AsTask());
        await SendAsync<StartRecoveryRequest>(messages, r => recovery.StartRecoveryAsync(r, World.Token).AsTask());
        await SendAsync<ListRecoveriesRequest>(messages, _ => recovery.ListRecoveriesAsync(World.Token).AsTask());
        await SendAsync<RemoveDependencyRequest>(messages, r => recovery.RemoveDependencyAsync(r, World.Token).AsTask());
        var migrations = world.Role.Migrations;
        await SendAsync<StartMigrationRequest>(messages, r => migrations.StartMigrationAsync(r, World.Token).AsTask());
        await SendAsync<StartMigrationPlanRequest>(messages, r => migrations.StartMigrationPlanAsync(r, World.Token).AsTask());
        await SendAsync<ListMigrationsRequest>(messages, r => migrations.ListMigrationsAsync(r, World.Token).AsTask());
        await SendAsync<GetMigrationRequest>(messages, r => migrations.GetMigrationAsync(r, World.Token).AsTask());
        await SendAsync<RemoveMigratedSourceRequest>(messages, r => migrations.RemoveMigratedSourceAsync(r, World.Token).AsTask());
        Assert.Equal(migration, (await migrations.GetMigrationAsync(new GetMigrationRequest { MigrationId = migration }, World.Token)).Migration.MigrationId);
        Assert.Equal(2u, (await world.Role.Admin.GetStatusAsync(World.Token)).AgentsEnrolled);
    }

    [Fact]
    public async Task Agents_requests()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var job = await world.StartBackupAsync(agent);
        await agent.ReportAsync(job.JobId, 1, Protocol.Common.V1.JobState.Running);
        var session = await world.Role.Store.BeginSessionAsync(
            agent.Caller, new BeginSessionRequest { JobId = job.JobId, Attempt = 1, VmId = agent.VmId.ToString(), PointId = job.PointId, RequestId = "r" }, World.Token);
        var messages = new WireMessages(2, [agent.VmId.ToString(), job.JobId, job.PointId, session.SessionId, await world.NewTokenAsync("other"), "other"]);
        var store = world.Role.Store;
        var caller = agent.Caller;
        await SendAsync<FindRecoveryPointsRequest>(messages, r => store.FindRecoveryPointsAsync(caller, r, World.Token).AsTask());
        await SendAsync<ProbeChunksRequest>(messages, r => store.ProbeChunksAsync(caller, r, World.Token).AsTask());
        await SendAsync<PutKeyRequest>(messages, r => store.PutKeyAsync(caller, r, World.Token).AsTask());
        await SendAsync<CommitRecoveryPointRequest>(messages, r => store.CommitRecoveryPointAsync(caller, r, World.Token).AsTask());
        await SendAsync<ReadManifestRequest>(messages, r => store.ReadManifestAsync(caller, r, World.Token).AsTask());
        await SendAsync<ReadMapNodesRequest>(messages, r => DrainAsync(store.ReadMapNodesAsync(caller, r, World.Token)));
        await SendAsync<ReadRecordsRequest>(messages, r => DrainAsync(store.ReadRecordsAsync(caller, r, World.Token)));
        await SendAsync<BeginSessionRequest>(messages, r => store.BeginSessionAsync(caller, r, World.Token).AsTask());
        await SendAsync<EnrollRequest>(messages, r => world.Role.Enrollment.EnrollAsync(r, World.Token).AsTask());
        await SendAsync<RenewCertificateRequest>(messages, r => world.Role.Enrollment.RenewAsync(caller, r, World.Token).AsTask());
        await SendAsync<ReadTaskOptionsRequest>(messages, r => Task.FromResult(world.Role.Agents.ReadTaskOptions(caller, r).ToList()));
        await SendAsync<AbandonSessionRequest>(messages, r => store.AbandonSessionAsync(caller, r).AsTask());
        Assert.Empty((await world.Role.Admin.ListRecoveryPointsAsync(new ListRecoveryPointsRequest(), World.Token)).RecoveryPoints);
    }

    [Fact]
    public async Task Streams_of_records()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var job = await world.StartBackupAsync(agent);
        await agent.ReportAsync(job.JobId, 1, Protocol.Common.V1.JobState.Running);
        var begin = new BeginSessionRequest { JobId = job.JobId, Attempt = 1, VmId = agent.VmId.ToString(), PointId = job.PointId, RequestId = "r" };
        for (var seed = 0; seed < Tries; seed++)
        {
            var session = await world.Role.Store.BeginSessionAsync(agent.Caller, begin, World.Token);
            var messages = new WireMessages(100 + seed, [session.SessionId, job.JobId]);
            var duplex = new MemoryDuplex<UploadRecordsRequest, UploadRecordsResponse>();
            for (var i = 0; i < 6; i++)
            {
                var message = messages.Next<UploadRecordsRequest>();
                foreach (var id in UploadRecordsRequest.Descriptor.Fields.InFieldNumberOrder().Where(static field => field.Name == "session_id"))
                {
                    id.Accessor.SetValue(message, session.SessionId);
                }
                Assert.True(duplex.Up.TryWrite(message));
            }
            duplex.Up.Complete();
            await ExpectFaultOrNothingAsync(() => world.Role.Store.UploadRecordsAsync(agent.Caller, duplex, World.Token), seed);
        }
    }

    [Fact]
    public async Task Control_streams()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        var job = await world.StartBackupAsync(agent);
        for (var seed = 0; seed < Tries; seed++)
        {
            var messages = new WireMessages(1000 + seed, [job.JobId, job.PointId, agent.VmId.ToString()]);
            await using var stream = ControlStream.OpenSilently(agent);
            if (seed % 2 == 0)
            {
                await stream.SendAsync(new ConnectRequest { Hello = new AgentHello { Version = "1", BootId = "0000000000000000000000000000000a" } });
            }
            for (var i = 0; i < 5; i++)
            {
                await stream.SendAsync(messages.Next<ConnectRequest>());
            }
            await stream.SendAsync(new ConnectRequest { Goodbye = new Goodbye() });
            await ExpectFaultOrNothingAsync(() => stream.Served.WaitAsync(TimeSpan.FromSeconds(30), World.Token), seed);
        }
        await agent.ReportInventoryAsync();
        Assert.NotEmpty((await world.Role.Admin.ListVirtualMachinesAsync(new ListVirtualMachinesRequest(), World.Token)).VirtualMachines);
    }

    private static async Task SendAsync<T>(WireMessages messages, Func<T, Task> call)
        where T : IMessage, new()
    {
        for (var i = 0; i < Tries; i++)
        {
            var message = messages.Next<T>();
            // As it arrives: through the parser.
            var parsed = (T)message.Descriptor.Parser.ParseFrom(message.ToByteArray());
            await ExpectFaultOrNothingAsync(() => call(parsed), i, message);
        }
    }

    private static async Task ExpectFaultOrNothingAsync(Func<Task> call, int seed, IMessage? message = null)
    {
        try
        {
            await call();
        }
        catch (FaultException fault)
        {
            Assert.False(string.IsNullOrWhiteSpace(fault.Message));
        }
        catch (Exception failure) when (failure is not Xunit.Sdk.XunitException)
        {
            var text = message?.ToString() ?? "";
            Assert.Fail($"{message?.Descriptor.Name} {seed}: {failure}\n{text[..Math.Min(text.Length, 2000)]}");
        }
    }

    private static async Task DrainAsync<T>(IAsyncEnumerable<T> answers, int most = int.MaxValue)
    {
        await foreach (var answer in answers)
        {
            (answer as IDisposable)?.Dispose();
            if (--most == 0)
            {
                return;
            }
        }
    }
}
