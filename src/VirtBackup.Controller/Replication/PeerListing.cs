using VirtBackup.Catalog.Replication;
using VirtBackup.Controller.Replication.Streams;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Replication.V1;

namespace VirtBackup.Controller.Replication;

/// <summary>Asks a peer what it has, and notes in the catalog what of it is not here. Safe for concurrent use.</summary>
internal sealed class PeerListing(ReplicationParts parts)
{
    private const int NameCharsMax = 256;
    private const int ListingIdCharsMax = 64;

    /// <summary>A listing of more is not believed.</summary>
    private const int PointsMax = 1_000_000;

    /// <param name="rule">The peer's.</param>
    /// <param name="row">Where the last listing ended.</param>
    /// <param name="wait">For so long, while the peer has nothing new; at most 30 s.</param>
    /// <param name="again">All that the peer has, also what expired here.</param>
    /// <returns>Whether anything was listed.</returns>
    public async ValueTask<bool> RefreshAsync(
        Conversation conversation, ReplicationRule rule, ReplicationRuleRow row, TimeSpan wait, bool again, CancellationToken cancellationToken)
    {
        var ask = new ListPointsAsk { ListingId = again ? "" : row.ListingId, After = (ulong)row.Position, WaitMs = (uint)wait.TotalMilliseconds };
        ask.VmIds.Add(await SelectAsync(conversation, rule, cancellationToken));
        var selected = ask.VmIds.Select(Id16.Parse).ToHashSet();
        var missing = new List<ElsewhereRow>();
        var machines = new Dictionary<Id16, (string Name, long NewestMs)>();
        ListPointsAnswer? end = null;
        var count = 0;
        await foreach (var part in conversation.AskAsync(new Ask { ListPoints = ask }, cancellationToken))
        {
            end = part.Points ?? throw conversation.Confused();
            foreach (var point in end.Points)
            {
                // What the rule does to the points that come, it does to machines that it names.
                if (++count > PointsMax || (selected.Count > 0 && !selected.Contains(WireText.ToId(point.VmId, "id of the virtual machine"))))
                {
                    throw conversation.Confused();
                }
                await NoteAsync(point, missing, machines, again, cancellationToken);
            }
        }
        if (end is not { ListingId.Length: > 0 and <= ListingIdCharsMax, Position: <= long.MaxValue })
        {
            throw conversation.Confused();
        }
        await parts.Catalog.Replication.NoteListingAsync(
            row.Peer, isWhole: end.ListingId != ask.ListingId, missing, [.. machines.Select(static machine => (machine.Key, machine.Value.Name, machine.Value.NewestMs))],
            end.ListingId, (long)end.Position, parts.Time.NowMs(), cancellationToken);
        return count > 0;
    }

    private async ValueTask NoteAsync(ListedPoint point, List<ElsewhereRow> missing, Dictionary<Id16, (string Name, long NewestMs)> machines, bool again, CancellationToken cancellationToken)
    {
        var (pointId, vmId) = (WireText.ToId(point.PointId, "id of the recovery point"), WireText.ToId(point.VmId, "id of the virtual machine"));
        var name = WireText.Bounded(point.VmName, NameCharsMax, "name of the machine");
        var known = machines.GetValueOrDefault(vmId);
        machines[vmId] = (name.Length > 0 ? name : known.Name ?? vmId.ToString(), Math.Max(known.NewestMs, point.CreatedMs));
        if (await parts.Repository.FindPointAsync(pointId, cancellationToken) is { IsComplete: true }
            || (!again && await parts.Catalog.Replication.IsExpiredAsync(pointId, cancellationToken)))
        {
            return;
        }
        missing.Add(new ElsewhereRow
        {
            PointId = pointId, VmId = vmId, CreatedMs = point.CreatedMs, Origin = WireText.ToId(point.OriginId, "id of the origin"), Sequence = (long)Math.Min(point.Sequence, long.MaxValue),
            Agent = WireText.Bounded(point.Agent, 63, "agent's name"), HypervisorKind = WireText.Bounded(point.HypervisorKind, 64, "kind of hypervisor"),
            LogicalBytes = (long)Math.Min(point.LogicalBytes, long.MaxValue), Consistency = Math.Clamp((int)point.Consistency, 0, 3),
            ConsistencyDetail = WireText.Bounded(point.ConsistencyDetail, 256, "detail"),
        });
    }

    /// <summary>The machines that the rule names. Names are those at the peer, so that all are listed while one is not known yet.</summary>
    private async ValueTask<List<string>> SelectAsync(Conversation conversation, ReplicationRule rule, CancellationToken cancellationToken)
    {
        var ids = new List<string>();
        foreach (var machine in rule.Vms)
        {
            if (Id16.TryParse(machine, out var id))
            {
                ids.Add(id.ToString());
                continue;
            }
            var known = await parts.Catalog.Replication.FindMachinesAsync(rule.Peer, machine, 2, cancellationToken);
            if (known.Count == 0)
            {
                known = await FindThereAsync(conversation, rule.Peer, machine, cancellationToken);
            }
            ids.AddRange(known.Select(static id => id.ToString()));
        }
        return rule.Vms.Count > 0 && ids.Count == 0
            ? throw new FaultException(FaultReason.NotFound, $"The peer '{rule.Peer}' has no recovery points of {string.Join(", ", rule.Vms)} that this site may read.")
            : ids;
    }

    private static async ValueTask<List<Id16>> FindThereAsync(Conversation conversation, string peer, string name, CancellationToken cancellationToken)
    {
        var found = new HashSet<Id16>();
        await foreach (var part in conversation.AskAsync(new Ask { ListPoints = new ListPointsAsk() }, cancellationToken))
        {
            foreach (var point in part.Points?.Points ?? throw conversation.Confused())
            {
                if (point.VmName == name)
                {
                    found.Add(WireText.ToId(point.VmId, "id of the virtual machine"));
                }
            }
        }
        return found.Count > 1
            ? throw new FaultException(FaultReason.InvalidArgument, $"'{name}' means more than one machine at the peer '{peer}': {string.Join(", ", found)}: give the id.")
            : [.. found];
    }
}
