using Grpc.Core;
using VirtBackup.Controller.Retention;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Controller.Grpc;

/// <summary>The retention service over gRPC.</summary>
public sealed class RetentionGrpcService(RetentionEndpoint endpoint) : Protocol.Admin.V1.RetentionService.RetentionServiceBase
{
    public override async Task<SetRuleSetResponse> SetRuleSet(SetRuleSetRequest request, ServerCallContext context) =>
        await endpoint.SetRuleSetAsync(request, context.CancellationToken);

    public override async Task<ListRuleSetsResponse> ListRuleSets(ListRuleSetsRequest request, ServerCallContext context) =>
        await endpoint.ListRuleSetsAsync(context.CancellationToken);

    public override async Task<GetRuleSetResponse> GetRuleSet(GetRuleSetRequest request, ServerCallContext context) =>
        await endpoint.GetRuleSetAsync(request, context.CancellationToken);

    public override async Task<DeleteRuleSetResponse> DeleteRuleSet(DeleteRuleSetRequest request, ServerCallContext context) =>
        await endpoint.DeleteRuleSetAsync(request, context.CancellationToken);

    public override async Task<AttachRuleSetResponse> AttachRuleSet(AttachRuleSetRequest request, ServerCallContext context) =>
        await endpoint.AttachRuleSetAsync(request, context.CancellationToken);

    public override async Task<DetachRuleSetResponse> DetachRuleSet(DetachRuleSetRequest request, ServerCallContext context) =>
        await endpoint.DetachRuleSetAsync(request, context.CancellationToken);

    public override async Task<HoldPointResponse> HoldPoint(HoldPointRequest request, ServerCallContext context) =>
        await endpoint.HoldPointAsync(CallGate.CallerOf(context), request, context.CancellationToken);

    public override async Task<ReleasePointResponse> ReleasePoint(ReleasePointRequest request, ServerCallContext context) =>
        await endpoint.ReleasePointAsync(request, context.CancellationToken);

    public override async Task<LockPointResponse> LockPoint(LockPointRequest request, ServerCallContext context) =>
        await endpoint.LockPointAsync(request, context.CancellationToken);

    public override async Task<SimulateRetentionResponse> SimulateRetention(SimulateRetentionRequest request, ServerCallContext context) =>
        await endpoint.SimulateRetentionAsync(request, context.CancellationToken);

    public override async Task<StartRetentionResponse> StartRetention(StartRetentionRequest request, ServerCallContext context) =>
        await endpoint.StartRetentionAsync(request, context.CancellationToken);

    public override async Task<ConfirmTimeResponse> ConfirmTime(ConfirmTimeRequest request, ServerCallContext context) =>
        await endpoint.ConfirmTimeAsync(request, context.CancellationToken);
}
