using VirtBackup.Controller.Replication.Streams;
using VirtBackup.Core;
using VirtBackup.Protocol.Replication.V1;

namespace VirtBackup.Controller.Replication;

/// <summary>Tells a source which of its points are here, so that it can count them as copies. Safe for concurrent use.</summary>
internal sealed class PeerReceipts(ReplicationParts parts)
{
    private const int PointsPerAsk = 1000;

    /// <summary>Between two tellings while nothing is pulled: points expire here, and are locked.</summary>
    public static TimeSpan Interval { get; } = TimeSpan.FromMinutes(10);

    /// <summary>Everything that is here whole of the machines that the peer listed.</summary>
    /// <exception cref="FaultException">The stream broke.</exception>
    public async ValueTask TellAllAsync(Conversation conversation, string peer, CancellationToken cancellationToken)
    {
        var machines = (await parts.Catalog.Replication.ListLagsAsync(peer, cancellationToken)).Select(static lag => lag.VmId).ToHashSet();
        var locked = await parts.Locks.ListAsync(cancellationToken);
        var held = (await parts.Repository.ListPointsAsync(null, cancellationToken)).Where(point => point.IsComplete && machines.Contains(point.Vm)).Select(static point => point.Point).ToList();
        for (var at = 0; at == 0 || at < held.Count; at += PointsPerAsk)
        {
            var ask = new HeldPointsAsk { First = at == 0, Last = at + PointsPerAsk >= held.Count };
            ask.Points.Add(held.Skip(at).Take(PointsPerAsk).Select(point => new HeldPoint { PointId = point.ToString(), LockedUntilMs = locked.GetValueOrDefault(point) }));
            await TellAsync(conversation, ask, cancellationToken);
        }
    }

    /// <summary>A point that has just come.</summary>
    /// <exception cref="FaultException">The stream broke.</exception>
    public async ValueTask TellAsync(Conversation conversation, Id16 point, CancellationToken cancellationToken) =>
        await TellAsync(conversation, new HeldPointsAsk { Points = { new HeldPoint { PointId = point.ToString(), LockedUntilMs = await parts.Locks.FindAsync(point, cancellationToken) } } }, cancellationToken);

    private async ValueTask TellAsync(Conversation conversation, HeldPointsAsk ask, CancellationToken cancellationToken)
    {
        ask.StoreKind = parts.StoreKind;
        try
        {
            await foreach (var _ in conversation.AskAsync(new Ask { HeldPoints = ask }, cancellationToken))
            {
                throw conversation.Confused();
            }
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.Unsupported)
        {
            // The source runs an older version, and counts no copies.
        }
    }
}
