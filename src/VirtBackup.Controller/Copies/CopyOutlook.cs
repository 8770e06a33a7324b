using VirtBackup.Catalog.Copies;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Controller.Copies;

/// <summary>Says what is where, and what is not where a policy wants it. Safe for concurrent use.</summary>
public sealed class CopyOutlook(CopyParts parts, CopyService service)
{
    /// <summary>How a copy store is now.</summary>
    public async ValueTask<CopyStore> DescribeAsync(CopyStoreRow row, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(row);
        var entry = service.Find(row.Name);
        var points = await parts.Catalog.Copies.ListPointsAsync(row.Name, cancellationToken);
        var store = new CopyStore
        {
            Name = row.Name, Location = row.Location, Kind = KnownPlaces.KindOf(row.Location), OffSite = row.OffSite, BytesPerSecondMax = (ulong)row.BytesPerSecondMax,
            CreateTime = WireText.ToTimestamp(row.CreatedMs), CompleteTime = WireText.ToTimestamp(row.CompleteMs),
            Open = entry?.Open is not null, Problem = entry?.Problem ?? "", Running = entry?.IsRunning ?? false, JobId = WireText.ToText(entry?.JobId ?? default),
            Points = (ulong)points.Values.Count(static point => point.Whole), PointsKept = (ulong)points.Values.Count(static point => point.ReleasedMs is not null),
        };
        await CountAsync(store, points, cancellationToken);
        if (entry?.Open is { } copy && copy.TryUse() is { } use)
        {
            using (use)
            {
                store.PackBytes = (ulong)(await copy.Repository.GetStatisticsAsync(cancellationToken)).PackBytes;
                store.DamagesOpen = (ulong)(await copy.Repository.Upkeep.ListDamagesAsync(cancellationToken)).Count(static pack => pack.HealedMs == 0);
            }
        }
        return store;
    }

    /// <summary>Every machine under each of the policies: the overdue ones first, then by policy and name.</summary>
    /// <param name="only">This machine; null: all.</param>
    internal async ValueTask<List<CopyStatus>> ListAsync(IReadOnlyList<StoredPolicy> policies, Id16? only, CancellationToken cancellationToken)
    {
        var places = await KnownPlaces.ReadAsync(parts, cancellationToken);
        var judged = new List<CopyStatus>();
        var machines = new Dictionary<Id16, MachineCopies>();
        var withPoints = await parts.Catalog.Points.ListMachinesAsync(cancellationToken);
        foreach (var policy in policies)
        {
            foreach (var vm in (policy.Policy.AllVms ? withPoints : policy.Machines.AsEnumerable()).Where(vm => only is null || vm == only))
            {
                if (!machines.TryGetValue(vm, out var copies))
                {
                    machines.Add(vm, copies = await MachineCopies.ReadAsync(parts, places, vm, cancellationToken));
                }
                var points = copies.Points.Where(point => policy.IsAbout(vm, point.Row.Peer.Length > 0)).ToList();
                if (points.Count > 0 || !policy.Policy.AllVms)
                {
                    judged.Add(new PolicyJudgement(policy, places, copies, parts.Time.NowMs()).Judge(points));
                }
            }
        }
        return [.. judged.OrderBy(static status => status.State == CopyState.Overdue ? 0 : 1).ThenBy(static status => status.Policy, StringComparer.Ordinal)
            .ThenBy(static status => status.VmName, StringComparer.Ordinal).ThenBy(static status => status.VmId, StringComparer.Ordinal)];
    }

    private async ValueTask CountAsync(CopyStore store, Dictionary<Id16, CopyPointRow> points, CancellationToken cancellationToken)
    {
        var policies = await new CopyComparison(parts).ListPoliciesAsync(cancellationToken);
        var replicas = await parts.Catalog.Copies.ListReplicasAsync(cancellationToken);
        var here = new HashSet<Id16>();
        foreach (var point in await parts.Repository.ListPointsAsync(null, cancellationToken))
        {
            here.Add(point.Point);
            if (point.IsComplete && !(points.TryGetValue(point.Point, out var copied) && copied.Whole)
                && policies.Exists(policy => policy.WantsAt(store.Name) && policy.IsAbout(point.Vm, replicas.Contains(point.Point))))
            {
                store.PointsMissing++;
            }
        }
        store.PointsOnlyThere = (ulong)points.Values.Count(point => point.ReleasedMs is null && !here.Contains(point.PointId));
    }
}
