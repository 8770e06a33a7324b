using Grpc.Core;
using VirtBackup.Controller.Groups;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Controller.Grpc;

/// <summary>The group service over gRPC.</summary>
public sealed class GroupGrpcService(GroupEndpoint endpoint) : GroupService.GroupServiceBase
{
    public override async Task<CreateGroupResponse> CreateGroup(CreateGroupRequest request, ServerCallContext context) =>
        await endpoint.CreateGroupAsync(request, context.CancellationToken);

    public override async Task<ChangeGroupResponse> ChangeGroup(ChangeGroupRequest request, ServerCallContext context) =>
        await endpoint.ChangeGroupAsync(request, context.CancellationToken);

    public override async Task<DeleteGroupResponse> DeleteGroup(DeleteGroupRequest request, ServerCallContext context) =>
        await endpoint.DeleteGroupAsync(request, context.CancellationToken);

    public override async Task<ListGroupsResponse> ListGroups(ListGroupsRequest request, ServerCallContext context) =>
        await endpoint.ListGroupsAsync(context.CancellationToken);

    public override async Task<GetGroupResponse> GetGroup(GetGroupRequest request, ServerCallContext context) =>
        await endpoint.GetGroupAsync(request, context.CancellationToken);

    public override async Task<StartGroupBackupResponse> StartGroupBackup(StartGroupBackupRequest request, ServerCallContext context) =>
        await endpoint.StartGroupBackupAsync(request, context.CancellationToken);

    public override async Task<GetGroupPointResponse> GetGroupPoint(GetGroupPointRequest request, ServerCallContext context) =>
        await endpoint.GetGroupPointAsync(request, context.CancellationToken);
}
