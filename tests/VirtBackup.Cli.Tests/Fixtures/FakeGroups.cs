using Grpc.Core;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Grpc;

namespace VirtBackup.Cli.Tests.Fixtures;

/// <summary>A group of two machines, of one of which a point is gone.</summary>
internal sealed class FakeGroups(FakeAdmin admin) : GroupService.GroupServiceBase
{
    private const string PointId = "dd00dd00dd00dd000000000000000001";

    public static GroupPoint Stored => new()
    {
        GroupPointId = PointId, Group = "shop", CutTime = FakeRetention.Noon, SkewUs = 12_300, SkewBoundMs = 1000, Consistent = true, Complete = true,
        Members = { Member("db1", GroupPointMember.Types.State.Stored), Member("web1", GroupPointMember.Types.State.Stored) },
    };

    private static GroupPoint Incomplete => new(Stored)
    {
        Consistent = false, Complete = false, Inconsistency = "db1 has forgotten its recovery point of this cut.", Members = { [0] = Member("db1", GroupPointMember.Types.State.Forgotten) },
    };

    private static Group Shop => new()
    {
        Name = "shop", SkewBoundMs = 1000, GroupPoints = 2, LastPointTime = FakeRetention.Noon,
        Members = { new GroupMember { VmId = FakeAdmin.VmId, VmName = "db1" }, new GroupMember { VmId = FakeAdmin.VmId, VmName = "web1", Agent = "host-1" } },
    };

    public override Task<CreateGroupResponse> CreateGroup(CreateGroupRequest request, ServerCallContext context) =>
        admin.Answer(request, new CreateGroupResponse { Group = new Group { Name = request.Name, SkewBoundMs = request.SkewBoundMs == 0 ? 1000 : request.SkewBoundMs, Members = { request.Vms.Select(Named) } } });

    public override Task<ChangeGroupResponse> ChangeGroup(ChangeGroupRequest request, ServerCallContext context) => request.Name == "shop"
        ? admin.Answer(request, new ChangeGroupResponse { Group = new Group { Name = "shop", SkewBoundMs = request.SkewBoundMs == 0 ? 1000 : request.SkewBoundMs, Members = { request.AddVms.Select(Named) } } })
        : throw Missing(request.Name);

    public override Task<DeleteGroupResponse> DeleteGroup(DeleteGroupRequest request, ServerCallContext context) => admin.Answer(request, new DeleteGroupResponse());

    public override Task<ListGroupsResponse> ListGroups(ListGroupsRequest request, ServerCallContext context) => admin.Answer(request, new ListGroupsResponse { Groups = { Shop } });

    public override Task<GetGroupResponse> GetGroup(GetGroupRequest request, ServerCallContext context) =>
        admin.Answer(request, new GetGroupResponse { Group = Shop, GroupPoints = { Stored, Incomplete } });

    public override Task<GetGroupPointResponse> GetGroupPoint(GetGroupPointRequest request, ServerCallContext context) => admin.Answer(request, new GetGroupPointResponse { GroupPoint = Incomplete });

    public override Task<StartGroupBackupResponse> StartGroupBackup(StartGroupBackupRequest request, ServerCallContext context) => request.Name == "shop"
        ? admin.Answer(request, new StartGroupBackupResponse { Job = admin.Started("group-backup", FakeAdmin.Machine) })
        : throw Missing(request.Name);

    private static GroupMember Named(string name) => new() { VmId = FakeAdmin.VmId, VmName = name, Agent = "host-1" };

    private static GroupPointMember Member(string name, GroupPointMember.Types.State state) => new()
    {
        VmId = FakeAdmin.VmId, VmName = name, Agent = "host-1", JobId = "77aa55bb1122000000000000000000ff", PointId = FakeAdmin.PointId, Held = true, State = state,
    };

    private static RpcException Missing(string name) => FaultStatus.ToRpc(new FaultException(FaultReason.NotFound, $"There is no group '{name}'."));
}
