using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using VirtBackup.Controller.Grpc;
using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Identity;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Grpc;
using VirtBackup.Protocol.Store.V1;

namespace VirtBackup.Controller.Tests;

/// <summary>The call gate over real Kestrel, TLS and certificates on loopback.</summary>
public sealed class RoleTests : IAsyncLifetime
{
    private World _world = null!;
    private X509Certificate2 _server = null!;
    private WebApplication _application = null!;
    private string _address = "";

    public async ValueTask InitializeAsync()
    {
        _world = await World.CreateAsync();
        _server = _world.Authority.IssueServer(["localhost"], [IPAddress.Loopback]);
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0, listen =>
        {
            listen.Protocols = HttpProtocols.Http2;
            listen.UseHttps(https =>
            {
                https.ServerCertificate = _server;
                https.ClientCertificateMode = ClientCertificateMode.AllowCertificate;
                https.ClientCertificateValidation = _world.Role.Chain.ClientCertificateValidation();
            });
        }));
        builder.Services.AddController(_world.Role);
        _application = builder.Build();
        _application.MapController();
        await _application.StartAsync(World.Token);
        _address = _application.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single();
    }

    public async ValueTask DisposeAsync()
    {
        await _application.StopAsync(CancellationToken.None);
        await _application.DisposeAsync();
        _server.Dispose();
        await _world.DisposeAsync();
    }

    [Fact]
    public async Task An_operator_manages_and_may_not_act_as_an_agent()
    {
        using var channel = Open(IssueClient(PeerRole.Operator, "alice"));
        var status = await new AdminService.AdminServiceClient(channel).GetStatusAsync(new GetStatusRequest(), cancellationToken: World.Token);
        Assert.Equal(_world.Repository.Head.Uuid.ToString(), status.RepositoryId);
        Assert.Empty((await new GroupService.GroupServiceClient(channel).ListGroupsAsync(new ListGroupsRequest(), cancellationToken: World.Token)).Groups);
        Assert.Empty((await new RetentionService.RetentionServiceClient(channel).ListRuleSetsAsync(new ListRuleSetsRequest(), cancellationToken: World.Token)).RuleSets);
        Assert.Empty((await new MigrationService.MigrationServiceClient(channel).ListMigrationsAsync(new ListMigrationsRequest(), cancellationToken: World.Token)).Migrations);
        Assert.Empty((await new RecoveryService.RecoveryServiceClient(channel).ListRecoveriesAsync(new ListRecoveriesRequest(), cancellationToken: World.Token)).Runs);
        await RefusedAsync(StatusCode.PermissionDenied, () => new StoreService.StoreServiceClient(channel).BeginSessionAsync(new BeginSessionRequest()).ResponseAsync);
        using var connect = new AgentService.AgentServiceClient(channel).Connect(cancellationToken: World.Token);
        await RefusedAsync(StatusCode.PermissionDenied, () => connect.ResponseStream.MoveNext(World.Token));
    }

    [Fact]
    public async Task An_agent_may_not_manage()
    {
        var agent = await _world.EnrollAsync();
        using var channel = Open(agent.Certificate);
        await RefusedAsync(StatusCode.PermissionDenied, () => new AdminService.AdminServiceClient(channel).GetStatusAsync(new GetStatusRequest()).ResponseAsync);
        var retention = new RetentionService.RetentionServiceClient(channel);
        await RefusedAsync(StatusCode.PermissionDenied, () => retention.DetachRuleSetAsync(new DetachRuleSetRequest { Vm = agent.VmName }).ResponseAsync);
        var recovery = new RecoveryService.RecoveryServiceClient(channel);
        await RefusedAsync(StatusCode.PermissionDenied, () => recovery.StartRecoveryAsync(new StartRecoveryRequest { Vms = { agent.VmName } }).ResponseAsync);
        var migration = new MigrationService.MigrationServiceClient(channel);
        await RefusedAsync(StatusCode.PermissionDenied, () => migration.StartMigrationAsync(new StartMigrationRequest { Vm = agent.VmName }).ResponseAsync);
        var groups = new GroupService.GroupServiceClient(channel);
        await RefusedAsync(StatusCode.PermissionDenied, () => groups.StartGroupBackupAsync(new StartGroupBackupRequest { Name = agent.VmName }).ResponseAsync);
        using var watch = new AdminService.AdminServiceClient(channel).WatchJob(new WatchJobRequest { JobId = "x" }, cancellationToken: World.Token);
        await RefusedAsync(StatusCode.PermissionDenied, () => watch.ResponseStream.MoveNext(World.Token));
        var found = await new StoreService.StoreServiceClient(channel).FindRecoveryPointsAsync(
            new FindRecoveryPointsRequest { VmId = agent.VmId.ToString() }, cancellationToken: World.Token);
        Assert.Empty(found.CommittedPointIds);
    }

    [Fact]
    public async Task Without_a_certificate_one_can_enrol_and_nothing_else()
    {
        using var channel = Open(null);
        await RefusedAsync(StatusCode.Unauthenticated, () => new AdminService.AdminServiceClient(channel).GetStatusAsync(new GetStatusRequest()).ResponseAsync);
        await RefusedAsync(StatusCode.Unauthenticated, () => new GroupService.GroupServiceClient(channel).ListGroupsAsync(new ListGroupsRequest()).ResponseAsync);
        await RefusedAsync(StatusCode.Unauthenticated, () => new MigrationService.MigrationServiceClient(channel).ListMigrationsAsync(new ListMigrationsRequest()).ResponseAsync);
        await RefusedAsync(StatusCode.Unauthenticated, () => new RecoveryService.RecoveryServiceClient(channel).ListRecoveriesAsync(new ListRecoveriesRequest()).ResponseAsync);
        await RefusedAsync(StatusCode.Unauthenticated, () => new StoreService.StoreServiceClient(channel).ProbeChunksAsync(new ProbeChunksRequest()).ResponseAsync);
        var client = new AgentService.AgentServiceClient(channel);
        await RefusedAsync(StatusCode.Unauthenticated, () => client.RenewCertificateAsync(new RenewCertificateRequest()).ResponseAsync);
        var agent = TestAgent.Unenrolled(_world, "host-9");
        var request = agent.NewRequest(await _world.NewTokenAsync());
        Assert.Equal("host-9", (await client.EnrollAsync(request, cancellationToken: World.Token)).AgentName);
        var refused = await Assert.ThrowsAsync<RpcException>(() => client.EnrollAsync(request, cancellationToken: World.Token).ResponseAsync);
        Assert.Equal(FaultReason.Denied, FaultStatus.FromRpc(refused, "the controller").Reason);
    }

    [Fact]
    public async Task A_revoked_agent_is_refused_on_the_connection_it_has()
    {
        var agent = await _world.EnrollAsync();
        using var channel = Open(agent.Certificate);
        var store = new StoreService.StoreServiceClient(channel);
        var request = new FindRecoveryPointsRequest { VmId = agent.VmId.ToString() };
        await store.FindRecoveryPointsAsync(request, cancellationToken: World.Token);
        using var connect = new AgentService.AgentServiceClient(channel).Connect(cancellationToken: World.Token);
        await connect.RequestStream.WriteAsync(new ConnectRequest { Hello = new AgentHello { BootId = Id16.Create(SystemEntropy.Instance).ToString() } }, World.Token);
        Assert.True(await connect.ResponseStream.MoveNext(World.Token));
        Assert.NotNull(connect.ResponseStream.Current.Hello);
        await _world.Role.Admin.RevokeAgentAsync(new RevokeAgentRequest { Name = agent.Name }, World.Token);
        await RefusedAsync(StatusCode.PermissionDenied, async () =>
        {
            while (await connect.ResponseStream.MoveNext(World.Token))
            {
            }
        });
        await RefusedAsync(StatusCode.Unauthenticated, () => store.FindRecoveryPointsAsync(request).ResponseAsync);
    }

    [Fact]
    public async Task A_certificate_of_another_authority_is_refused()
    {
        using var foreign = CertificateAuthority.Create(SystemEntropy.Instance, _world.Time);
        using var channel = Open(IssueClient(PeerRole.Operator, "mallory", foreign));
        var refused = await Assert.ThrowsAsync<RpcException>(() => new AdminService.AdminServiceClient(channel).GetStatusAsync(new GetStatusRequest()).ResponseAsync);
        // TLS ends before there is a call: depending on which side notices first, the client says one or the other.
        Assert.True(refused.StatusCode is StatusCode.Unavailable or StatusCode.Internal, refused.ToString());
        Assert.IsType<HttpRequestException>(refused.Status.DebugException);
    }

    private static async Task RefusedAsync(StatusCode code, Func<Task> call)
    {
        var refused = await Assert.ThrowsAsync<RpcException>(call);
        Assert.True(refused.StatusCode == code, refused.ToString());
    }

    private X509Certificate2 IssueClient(PeerRole role, string name, CertificateAuthority? authority = null)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var certificate = (authority ?? _world.Authority).IssueClient(SigningRequest.Create(key), role, name);
        return certificate.CopyWithPrivateKey(key);
    }

    private GrpcChannel Open(X509Certificate2? certificate)
    {
        var handler = new SocketsHttpHandler();
        handler.SslOptions.RemoteCertificateValidationCallback = new ChainPolicy(_world.Authority.Certificate, _world.Time).ServerValidation("localhost");
        if (certificate is not null)
        {
            handler.SslOptions.LocalCertificateSelectionCallback = (_, _, _, _, _) => certificate;
        }
        return GrpcChannel.ForAddress(_address, new GrpcChannelOptions { HttpHandler = handler, DisposeHttpClient = true });
    }
}
