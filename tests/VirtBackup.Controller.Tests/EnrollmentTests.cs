using Google.Protobuf;
using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Identity;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Controller.Tests;

public sealed class EnrollmentTests
{
    [Fact]
    public async Task An_agent_enrols_and_its_signing_key_is_kept_in_the_repository()
    {
        await using var world = await World.CreateAsync();
        var agent = await TestAgent.EnrollAsync(world, "host-1", await world.NewTokenAsync());
        var verdict = world.Role.Chain.ValidateClient(agent.Certificate);
        Assert.True(verdict.IsAccepted, verdict.Reason);
        Assert.Equal((PeerRole.Agent, "host-1"), (verdict.RequirePeer().Role, verdict.RequirePeer().Name));
        Assert.Equal(agent.SigningKey.ExportSubjectPublicKeyInfo(), await world.Store.ReadAllAsync(ObjectKeys.Agent(agent.SigningKeyId), 1024, World.Token));
        var listed = Assert.Single((await world.Role.Admin.ListAgentsAsync(new ListAgentsRequest(), World.Token)).Agents);
        Assert.Equal(("host-1", false, false), (listed.Name, listed.Connected, listed.Revoked));
    }

    [Fact]
    public async Task A_token_is_good_for_one_agent_and_for_its_lifetime()
    {
        await using var world = await World.CreateAsync();
        var token = await world.NewTokenAsync();
        await TestAgent.EnrollAsync(world, "host-1", token);
        await RefusedAsync(FaultReason.Denied, () => TestAgent.EnrollAsync(world, "host-2", token));
        var late = await world.NewTokenAsync();
        world.Time.Advance(TimeSpan.FromMinutes(61));
        await RefusedAsync(FaultReason.Denied, () => TestAgent.EnrollAsync(world, "host-3", late));
    }

    [Fact]
    public async Task A_token_for_a_name_admits_no_other_and_replaces_the_agent_of_that_name()
    {
        await using var world = await World.CreateAsync();
        await RefusedAsync(FaultReason.Denied, async () => await TestAgent.EnrollAsync(world, "host-2", await world.NewTokenAsync("host-1")));
        var old = await TestAgent.EnrollAsync(world, "host-1", await world.NewTokenAsync());
        await RefusedAsync(FaultReason.AlreadyExists, async () => await TestAgent.EnrollAsync(world, "host-1", await world.NewTokenAsync()));
        var replaced = await TestAgent.EnrollAsync(world, "host-1", await world.NewTokenAsync("host-1"));
        Assert.Equal(ChainRefusal.Revoked, world.Role.Chain.ValidateClient(old.Certificate).Refusal);
        Assert.True(world.Role.Chain.ValidateClient(replaced.Certificate).IsAccepted);
    }

    [Fact]
    public async Task Who_does_not_hold_the_signing_key_is_refused_and_the_token_stays_good()
    {
        await using var world = await World.CreateAsync();
        var token = await world.NewTokenAsync();
        var agent = TestAgent.Unenrolled(world, "host-1");
        var request = agent.NewRequest(token);
        request.SigningKeyProof = TestAgent.Unenrolled(world, "host-1").NewRequest(token).SigningKeyProof;
        await RefusedAsync(FaultReason.Denied, async () => await world.Role.Enrollment.EnrollAsync(request, World.Token));
        await agent.EnrollAsync(token);
        Assert.NotNull(agent.Certificate);
    }

    [Fact]
    public async Task A_certificate_is_renewed_for_the_same_key_only()
    {
        await using var world = await World.CreateAsync();
        var agent = await TestAgent.EnrollAsync(world, "host-1", await world.NewTokenAsync());
        world.Time.Advance(TimeSpan.FromDays(20));
        var response = await world.Role.Enrollment.RenewAsync(
            agent.Caller, new RenewCertificateRequest { CertificateSigningRequest = ByteString.CopyFrom(SigningRequest.Create(agent.TlsKey)) }, World.Token);
        var before = agent.Certificate;
        agent.TakeCertificate(response.CertificateChain.ToStringUtf8());
        Assert.True(agent.Certificate.NotAfter > before.NotAfter.AddDays(19));
        await RefusedAsync(FaultReason.Denied, async () => await world.Role.Enrollment.RenewAsync(
            agent.Caller, new RenewCertificateRequest { CertificateSigningRequest = ByteString.CopyFrom(SigningRequest.Create(agent.SigningKey)) }, World.Token));
    }

    [Fact]
    public async Task Revoking_ends_the_live_stream_and_outlives_a_restart()
    {
        await using var world = await World.CreateAsync();
        var agent = await world.EnrollAsync();
        await using var control = await ControlStream.OpenAsync(agent, Id16.Create(SystemEntropy.Instance));
        Assert.True((await world.Role.Admin.RevokeAgentAsync(new RevokeAgentRequest { Name = agent.Name }, World.Token)).Agent.Revoked);
        await RefusedAsync(FaultReason.Denied, () => control.Served);
        Assert.Equal(ChainRefusal.Revoked, world.Role.Chain.ValidateClient(agent.Certificate).Refusal);
        await world.RestartAsync();
        Assert.Equal(ChainRefusal.Revoked, world.Role.Chain.ValidateClient(agent.Certificate).Refusal);
        await using var again = ControlStream.OpenSilently(agent);
        await again.SendAsync(new ConnectRequest { Hello = new AgentHello { BootId = Id16.Create(SystemEntropy.Instance).ToString() } });
        await RefusedAsync(FaultReason.Denied, () => again.Served);
    }

    internal static async Task<FaultException> RefusedAsync(FaultReason reason, Func<Task> action)
    {
        var fault = await Assert.ThrowsAsync<FaultException>(action);
        Assert.True(fault.Reason == reason, $"{fault.Reason}: {fault.Message}");
        return fault;
    }
}
