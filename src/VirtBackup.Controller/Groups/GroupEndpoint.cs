using Google.Protobuf;
using Google.Protobuf.Collections;
using VirtBackup.Catalog;
using VirtBackup.Controller.Admin;
using VirtBackup.Controller.Control;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Controller.Groups;

/// <summary>What operators' tools can ask for about groups. Safe for concurrent use.</summary>
public sealed class GroupEndpoint(CatalogDatabase catalog, References references, JobService jobs, GroupBackups backups, GroupPoints points, IEntropy entropy, TimeProvider time)
{
    private const int SkewBoundMsDefault = 1000;
    private const int PointsDefault = 20;
    private const int PointsMax = 1000;
    private const int OptionsBytesMax = 1024;

    public async ValueTask<CreateGroupResponse> CreateGroupAsync(CreateGroupRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var bound = request.SkewBoundMs == 0 ? SkewBoundMsDefault : ToBound(request.SkewBoundMs);
        var group = new GroupRow(request.Name, bound, await FindMachinesAsync(request.Vms, cancellationToken));
        return new CreateGroupResponse { Group = await ToMessageAsync(await catalog.Groups.AddAsync(group, time.NowMs(), cancellationToken), cancellationToken) };
    }

    public async ValueTask<ChangeGroupResponse> ChangeGroupAsync(ChangeGroupRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var group = await RequireAsync(request.Name, cancellationToken);
        var removed = await FindMachinesAsync(request.RemoveVms, cancellationToken);
        if (removed.FirstOrDefault(vmId => !group.Members.Contains(vmId)) is { IsEmpty: false } stranger)
        {
            throw new FaultException(FaultReason.NotFound, $"The virtual machine '{await references.NameMachineAsync(stranger, cancellationToken)}' is not in the group '{group.Name}'.");
        }
        var changed = await catalog.Groups.ChangeAsync(
            request.Name, await FindMachinesAsync(request.AddVms, cancellationToken), removed, request.SkewBoundMs == 0 ? null : ToBound(request.SkewBoundMs), cancellationToken);
        return new ChangeGroupResponse { Group = await ToMessageAsync(changed, cancellationToken) };
    }

    public async ValueTask<DeleteGroupResponse> DeleteGroupAsync(DeleteGroupRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        await catalog.Groups.DeleteAsync(request.Name, cancellationToken);
        return new DeleteGroupResponse();
    }

    public async ValueTask<ListGroupsResponse> ListGroupsAsync(CancellationToken cancellationToken)
    {
        var response = new ListGroupsResponse();
        foreach (var group in await catalog.Groups.ListAsync(cancellationToken))
        {
            response.Groups.Add(await ToMessageAsync(group, cancellationToken));
        }
        return response;
    }

    public async ValueTask<GetGroupResponse> GetGroupAsync(GetGroupRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var response = new GetGroupResponse { Group = await ToMessageAsync(await RequireAsync(request.Name, cancellationToken), cancellationToken) };
        var count = request.PointsMax == 0 ? PointsDefault : (int)Math.Min(request.PointsMax, PointsMax);
        foreach (var run in await catalog.GroupRuns.ListMadeAsync(request.Name, count, cancellationToken))
        {
            response.GroupPoints.Add(await points.DescribeAsync(run, cancellationToken));
        }
        return response;
    }

    public async ValueTask<GetGroupPointResponse> GetGroupPointAsync(GetGroupPointRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        return new GetGroupPointResponse { GroupPoint = await points.DescribeAsync(await points.FindAsync(request.GroupPoint, cancellationToken), cancellationToken) };
    }

    public async ValueTask<StartGroupBackupResponse> StartGroupBackupAsync(StartGroupBackupRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var group = await RequireAsync(request.Name, cancellationToken);
        if (request.Options is { } options && (options.ExcludedDisks.Count > 0 || options.ChangedExtents.Count > 0 || options.GroupRunId.Length > 0 || options.CalculateSize() > OptionsBytesMax))
        {
            throw new FaultException(FaultReason.InvalidArgument, "A group's backup excludes no disks and is told of no changes: those are one machine's.");
        }
        _ = await backups.FindMachinesAsync(group, cancellationToken);
        var job = await jobs.CreateAsync(
            new JobRow
            {
                JobId = Id16.Create(entropy), RequestId = WireText.ToRequestId(request.RequestId),
                Kind = JobKind.GroupBackup, VmName = group.Name, Options = request.ToByteArray(), CreatedMs = time.NowMs(),
            },
            cancellationToken);
        await backups.StartAsync(job, cancellationToken);
        return new StartGroupBackupResponse { Job = AdminMessages.ToMessage(job, null) };
    }

    private async ValueTask<GroupRow> RequireAsync(string name, CancellationToken cancellationToken) =>
        await catalog.Groups.FindAsync(name, cancellationToken) ?? throw new FaultException(FaultReason.NotFound, $"There is no group '{name}'.");

    private async ValueTask<List<Id16>> FindMachinesAsync(RepeatedField<string> names, CancellationToken cancellationToken)
    {
        if (names.Count > GroupRecords.MembersMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A group has at most {GroupRecords.MembersMax} machines.");
        }
        var found = new List<Id16>();
        foreach (var name in names)
        {
            found.Add(await references.FindMachineIdAsync(name, cancellationToken));
        }
        return found;
    }

    private async ValueTask<Group> ToMessageAsync(GroupRow row, CancellationToken cancellationToken)
    {
        var (count, newestMs) = await catalog.GroupRuns.SummariseAsync(row.Name, cancellationToken);
        var group = new Group { Name = row.Name, SkewBoundMs = (uint)row.SkewBoundMs, GroupPoints = (uint)count, LastPointTime = WireText.ToTimestamp(newestMs) };
        var members = new List<GroupMember>();
        foreach (var vmId in row.Members)
        {
            var machine = await catalog.Machines.FindAsync(vmId, cancellationToken);
            members.Add(new GroupMember
            {
                VmId = vmId.ToString(), VmName = machine?.Name ?? await references.NameMachineAsync(vmId, cancellationToken), Agent = machine is { Present: true } ? machine.Agent : "",
            });
        }
        group.Members.Add(members.OrderBy(static member => member.VmName, StringComparer.Ordinal));
        return group;
    }

    private static int ToBound(uint milliseconds) => (int)Math.Min(milliseconds, int.MaxValue);
}
