using VirtBackup.Catalog;
using VirtBackup.Controller.Admin;
using VirtBackup.Controller.Control;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using BackupResult = VirtBackup.Protocol.Agent.V1.BackupResult;

namespace VirtBackup.Controller.Groups;

/// <summary>
/// What the runs of groups made, and what is left of it: member points that expired or were forgotten make a group's point incomplete.
/// Safe for concurrent use.
/// </summary>
public sealed class GroupPoints(CatalogDatabase catalog, JobService jobs)
{
    private const int CharsMax = 256;

    /// <summary>Finds a run that was cut: by its id, an unambiguous start of it, or <c>GROUP@latest</c>.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>, or <see cref="FaultReason.InvalidArgument"/> when it is ambiguous.</exception>
    public async ValueTask<GroupRunRow> FindAsync(string reference, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(reference);
        if (reference.Length is 0 or > CharsMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, "Say which recovery point of a group is meant.");
        }
        if (reference.EndsWith("@latest", StringComparison.Ordinal))
        {
            var group = reference[..^"@latest".Length];
            return (await catalog.GroupRuns.ListMadeAsync(group, 1, cancellationToken)).FirstOrDefault()
                ?? throw new FaultException(FaultReason.NotFound, $"The group '{group}' has no recovery point.");
        }
        var runs = reference.Length >= References.PrefixMin && WireText.ToRange(reference) is { } range
            ? await catalog.GroupRuns.FindMadeByRangeAsync(range.First, range.Last, 2, cancellationToken) : [];
        return runs.Count switch
        {
            0 => throw new FaultException(FaultReason.NotFound, $"There is no group's recovery point '{reference}': give its id, at least {References.PrefixMin} digits of it, or GROUP@latest."),
            1 => runs[0],
            _ => throw new FaultException(FaultReason.InvalidArgument, $"'{reference}' means more than one group's recovery point: give the whole id."),
        };
    }

    /// <summary>The run as it is now.</summary>
    public async ValueTask<GroupPoint> DescribeAsync(GroupRunRow run, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(run);
        var point = new GroupPoint
        {
            GroupPointId = run.RunId.ToString(), Group = run.Group, CutTime = WireText.ToTimestamp(run.CutMs), SkewUs = (ulong)run.SkewUs, SkewBoundMs = (uint)run.SkewBoundMs,
        };
        var reasons = new List<string>();
        if (run.SkewUs > run.SkewBoundMs * 1000L)
        {
            reasons.Add($"The cuts may lie {run.SkewUs / 1000} ms apart, more than the bound of {run.SkewBoundMs} ms.");
        }
        foreach (var member in run.Members.OrderBy(static member => member.VmName, StringComparer.Ordinal))
        {
            var (message, problem) = await DescribeAsync(member, cancellationToken);
            point.Members.Add(message);
            if (problem is not null)
            {
                reasons.Add($"{member.VmName} {problem}");
            }
        }
        point.Complete = point.Members.All(static member => member.State == GroupPointMember.Types.State.Stored);
        point.Consistent = reasons.Count == 0;
        point.Inconsistency = string.Join(" ", reasons);
        return point;
    }

    private async ValueTask<(GroupPointMember Message, string? Problem)> DescribeAsync(GroupRunMember member, CancellationToken cancellationToken)
    {
        var stored = await catalog.Points.FindAsync(member.PointId, cancellationToken);
        var job = await catalog.Jobs.FindAsync(member.JobId, cancellationToken);
        var state = stored is { Forgotten: false } ? GroupPointMember.Types.State.Stored
            : stored is not null ? GroupPointMember.Types.State.Forgotten
            : job is null or { State: JobPhase.Succeeded } ? GroupPointMember.Types.State.Gone
            : jobs.Newest(job).IsFinal ? GroupPointMember.Types.State.Failed : GroupPointMember.Types.State.Running;
        var message = new GroupPointMember
        {
            VmId = member.VmId.ToString(), VmName = member.VmName, Agent = member.Agent, JobId = member.JobId.ToString(), PointId = member.PointId.ToString(),
            Held = member.Held, State = state,
            FailureMessage = state != GroupPointMember.Types.State.Failed ? "" : job!.FailureMessage.Length > 0 ? job.FailureMessage : "It was cancelled.",
        };
        var problem = state switch
        {
            GroupPointMember.Types.State.Failed => "has no recovery point of this cut.",
            GroupPointMember.Types.State.Running => "is still being backed up.",
            GroupPointMember.Types.State.Forgotten => "has forgotten its recovery point of this cut.",
            GroupPointMember.Types.State.Gone => "does not have its recovery point of this cut any more.",
            _ when !member.Held => "is not known to have stood still while all were cut.",
            _ when job is { State: JobPhase.Succeeded } && BackupResult.Parser.ParseFrom(job.Result).CutAnew => "was cut anew by itself, because an audit found that its change tracking had missed a change.",
            _ => null,
        };
        return (message, problem);
    }
}
