using Grpc.AspNetCore.Server;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using VirtBackup.Core;

namespace VirtBackup.Controller.Grpc;

/// <summary>Puts a controller's services behind gRPC.</summary>
public static class ControllerGrpc
{
    /// <summary>Largest message that is received: a manifest of 3 MiB and its frame.</summary>
    private const int ReceiveBytesMax = 4 << 20;

    /// <summary>Largest message that is sent: a manifest of 16 MiB and its grant.</summary>
    private const int SendBytesMax = 32 << 20;

    public static IGrpcServerBuilder AddController(this IServiceCollection services, ControllerRole role)
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentNullException.ThrowIfNull(role);
        services.AddSingleton(role.Agents);
        services.AddSingleton(role.Enrollment);
        services.AddSingleton(role.Store);
        services.AddSingleton(role.Admin);
        services.AddSingleton(role.Retention);
        services.AddSingleton(role.Recovery);
        services.AddSingleton(role.Migrations);
        services.AddSingleton(role.Groups);
        services.AddSingleton(role.Peers);
        services.AddSingleton(role.PeerAdmin);
        services.AddSingleton(role.Rules);
        services.AddSingleton(role.Replication);
        services.AddSingleton(provider => new CallGate(role.Chain, provider.GetRequiredService<ILogger<CallGate>>()));
        services.AddSingleton<AgentGrpcService>();
        services.AddSingleton<StoreGrpcService>();
        services.AddSingleton<AdminGrpcService>();
        services.AddSingleton<RetentionGrpcService>();
        services.AddSingleton<RecoveryGrpcService>();
        services.AddSingleton<MigrationGrpcService>();
        services.AddSingleton<GroupGrpcService>();
        services.AddSingleton<ReplicationAdminGrpcService>();
        services.AddSingleton<ReplicationGrpcService>();
        var grpc = services.AddGrpc(static options =>
        {
            options.Interceptors.Add<CallGate>();
            options.MaxReceiveMessageSize = ReceiveBytesMax;
            options.MaxSendMessageSize = SendBytesMax;
            // Sealed data does not compress, and everything else is small.
            options.ResponseCompressionAlgorithm = null;
            options.EnableDetailedErrors = false;
        });
        return grpc.AddServiceOptions<AgentGrpcService>(static options =>
        {
            options.MaxReceiveMessageSize = Limits.ControlMessageBytesMax;
            options.MaxSendMessageSize = Limits.ControlMessageBytesMax;
        });
    }

    public static void MapController(this IEndpointRouteBuilder routes)
    {
        routes.MapGrpcService<AgentGrpcService>();
        routes.MapGrpcService<StoreGrpcService>();
        routes.MapGrpcService<AdminGrpcService>();
        routes.MapGrpcService<RetentionGrpcService>();
        routes.MapGrpcService<RecoveryGrpcService>();
        routes.MapGrpcService<MigrationGrpcService>();
        routes.MapGrpcService<GroupGrpcService>();
        routes.MapGrpcService<ReplicationAdminGrpcService>();
        routes.MapGrpcService<ReplicationGrpcService>();
    }
}
