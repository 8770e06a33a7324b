using Grpc.Core;
using VirtBackup.Controller.Recovery;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Controller.Grpc;

/// <summary>The recovery service over gRPC.</summary>
public sealed class RecoveryGrpcService(RecoveryEndpoint endpoint) : Protocol.Admin.V1.RecoveryService.RecoveryServiceBase
{
    public override async Task<AddDependencyResponse> AddDependency(AddDependencyRequest request, ServerCallContext context) =>
        await endpoint.AddDependencyAsync(request, context.CancellationToken);

    public override async Task<RemoveDependencyResponse> RemoveDependency(RemoveDependencyRequest request, ServerCallContext context) =>
        await endpoint.RemoveDependencyAsync(request, context.CancellationToken);

    public override async Task<SetProbeResponse> SetProbe(SetProbeRequest request, ServerCallContext context) =>
        await endpoint.SetProbeAsync(request, context.CancellationToken);

    public override async Task<GetDependenciesResponse> GetDependencies(GetDependenciesRequest request, ServerCallContext context) =>
        await endpoint.GetDependenciesAsync(request, context.CancellationToken);

    public override async Task<StartRecoveryResponse> StartRecovery(StartRecoveryRequest request, ServerCallContext context) =>
        await endpoint.StartRecoveryAsync(request, context.CancellationToken);

    public override async Task<ListRecoveriesResponse> ListRecoveries(ListRecoveriesRequest request, ServerCallContext context) =>
        await endpoint.ListRecoveriesAsync(context.CancellationToken);
}
