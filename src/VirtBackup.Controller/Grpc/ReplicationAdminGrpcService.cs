using Grpc.Core;
using VirtBackup.Controller.Replication;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Controller.Grpc;

/// <summary>What operators' tools ask of replication, over gRPC.</summary>
public sealed class ReplicationAdminGrpcService(PeerEndpoint peers, RuleEndpoint rules) : ReplicationAdminService.ReplicationAdminServiceBase
{
    public override async Task<CreatePeerTokenResponse> CreatePeerToken(CreatePeerTokenRequest request, ServerCallContext context) =>
        await peers.CreatePeerTokenAsync(request, context.CancellationToken);

    public override async Task<AddPeerResponse> AddPeer(AddPeerRequest request, ServerCallContext context) =>
        await peers.AddPeerAsync(request, context.CancellationToken);

    public override async Task<ListPeersResponse> ListPeers(ListPeersRequest request, ServerCallContext context) =>
        await peers.ListPeersAsync(context.CancellationToken);

    public override async Task<GetPeerResponse> GetPeer(GetPeerRequest request, ServerCallContext context) =>
        await peers.GetPeerAsync(request, context.CancellationToken);

    public override async Task<AllowPeerResponse> AllowPeer(AllowPeerRequest request, ServerCallContext context) =>
        await peers.AllowPeerAsync(request, context.CancellationToken);

    public override async Task<OfferToPeerResponse> OfferToPeer(OfferToPeerRequest request, ServerCallContext context) =>
        await peers.OfferToPeerAsync(request, context.CancellationToken);

    public override async Task<RevokePeerResponse> RevokePeer(RevokePeerRequest request, ServerCallContext context) =>
        await peers.RevokePeerAsync(request, context.CancellationToken);

    public override async Task<RemovePeerResponse> RemovePeer(RemovePeerRequest request, ServerCallContext context) =>
        await peers.RemovePeerAsync(request, context.CancellationToken);

    public override async Task<UnlockPeerResponse> UnlockPeer(UnlockPeerRequest request, ServerCallContext context) =>
        await peers.UnlockPeerAsync(request, context.CancellationToken);

    public override async Task<SetReplicationRuleResponse> SetReplicationRule(SetReplicationRuleRequest request, ServerCallContext context) =>
        await rules.SetReplicationRuleAsync(request, context.CancellationToken);

    public override async Task<ListReplicationRulesResponse> ListReplicationRules(ListReplicationRulesRequest request, ServerCallContext context) =>
        await rules.ListReplicationRulesAsync(context.CancellationToken);

    public override async Task<RemoveReplicationRuleResponse> RemoveReplicationRule(RemoveReplicationRuleRequest request, ServerCallContext context) =>
        await rules.RemoveReplicationRuleAsync(request, context.CancellationToken);

    public override async Task<StartReplicationResponse> StartReplication(StartReplicationRequest request, ServerCallContext context) =>
        await rules.StartReplicationAsync(request, context.CancellationToken);

    public override async Task<GetReplicationStatusResponse> GetReplicationStatus(GetReplicationStatusRequest request, ServerCallContext context) =>
        await rules.GetReplicationStatusAsync(request, context.CancellationToken);
}
