using Grpc.Core;
using VirtBackup.Controller.Copies;
using VirtBackup.Protocol.Admin.V1;
using CopyCalls = VirtBackup.Protocol.Admin.V1.CopyService;

namespace VirtBackup.Controller.Grpc;

/// <summary>What operators' tools ask of copies, over gRPC.</summary>
public sealed class CopyGrpcService(CopyStoreEndpoint stores, CopyPolicyEndpoint policies) : CopyCalls.CopyServiceBase
{
    public override async Task<AddCopyStoreResponse> AddCopyStore(AddCopyStoreRequest request, ServerCallContext context) =>
        await stores.AddCopyStoreAsync(request, context.CancellationToken);

    public override async Task<ListCopyStoresResponse> ListCopyStores(ListCopyStoresRequest request, ServerCallContext context) =>
        await stores.ListCopyStoresAsync(context.CancellationToken);

    public override async Task<GetCopyStoreResponse> GetCopyStore(GetCopyStoreRequest request, ServerCallContext context) =>
        await stores.GetCopyStoreAsync(request, context.CancellationToken);

    public override async Task<RemoveCopyStoreResponse> RemoveCopyStore(RemoveCopyStoreRequest request, ServerCallContext context) =>
        await stores.RemoveCopyStoreAsync(request, context.CancellationToken);

    public override async Task<StartCopyResponse> StartCopy(StartCopyRequest request, ServerCallContext context) =>
        await stores.StartCopyAsync(request, context.CancellationToken);

    public override async Task<SetCopyPolicyResponse> SetCopyPolicy(SetCopyPolicyRequest request, ServerCallContext context) =>
        await policies.SetCopyPolicyAsync(request, context.CancellationToken);

    public override async Task<ListCopyPoliciesResponse> ListCopyPolicies(ListCopyPoliciesRequest request, ServerCallContext context) =>
        await policies.ListCopyPoliciesAsync(context.CancellationToken);

    public override async Task<RemoveCopyPolicyResponse> RemoveCopyPolicy(RemoveCopyPolicyRequest request, ServerCallContext context) =>
        await policies.RemoveCopyPolicyAsync(request, context.CancellationToken);

    public override async Task<GetCopyStatusResponse> GetCopyStatus(GetCopyStatusRequest request, ServerCallContext context) =>
        await policies.GetCopyStatusAsync(request, context.CancellationToken);
}
