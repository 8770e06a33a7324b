using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Views;

/// <param name="Agent">Null: no agent reports it any more.</param>
internal sealed record GroupMemberView(string VmId, string Vm, string? Agent);

internal sealed record GroupView(string Name, IReadOnlyList<GroupMemberView> Members, uint SkewBoundMs, uint GroupPoints, DateTimeOffset? LastPointTime)
{
    public static GroupView Of(Group group) => new(
        group.Name, [.. group.Members.Select(static member => new GroupMemberView(member.VmId, member.VmName, WireNames.TextOrNull(member.Agent)))],
        group.SkewBoundMs, group.GroupPoints, WireNames.Of(group.LastPointTime));
}

/// <param name="State">stored, running, failed, forgotten or gone.</param>
/// <param name="Held">It stood still while all were cut.</param>
internal sealed record GroupPointMemberView(string VmId, string Vm, string Agent, string JobId, string PointId, bool Held, string State, string? Failure)
{
    public static GroupPointMemberView Of(GroupPointMember member) => new(
        member.VmId, member.VmName, member.Agent, member.JobId, member.PointId, member.Held, Output.SnakeCase.Of(member.State.ToString()), WireNames.TextOrNull(member.FailureMessage));
}

/// <param name="SkewMs">Milliseconds between the first cut and the last, at most.</param>
/// <param name="Inconsistency">Why it is not consistent; null: it is.</param>
/// <param name="Complete">Every machine's recovery point is there.</param>
internal sealed record GroupPointView(
    string GroupPointId, string Group, DateTimeOffset? CutTime, double SkewMs, uint SkewBoundMs, bool Consistent, string? Inconsistency, bool Complete, IReadOnlyList<GroupPointMemberView> Members)
{
    public static GroupPointView Of(GroupPoint point) => new(
        point.GroupPointId, point.Group, WireNames.Of(point.CutTime), point.SkewUs / 1000.0, point.SkewBoundMs, point.Consistent, WireNames.TextOrNull(point.Inconsistency), point.Complete,
        [.. point.Members.Select(GroupPointMemberView.Of)]);
}
