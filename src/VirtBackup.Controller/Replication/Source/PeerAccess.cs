using VirtBackup.Catalog;
using VirtBackup.Catalog.Replication;
using VirtBackup.Core;
using VirtBackup.Repository;

namespace VirtBackup.Controller.Replication.Source;

/// <summary>What peers may read here. Judged at every ask: it may change while a stream lives. Safe for concurrent use.</summary>
public sealed class PeerAccess(CatalogDatabase catalog, BackupRepository repository)
{
    /// <exception cref="FaultException"><see cref="FaultReason.Denied"/>: no such peer, or it is revoked.</exception>
    public async ValueTask<PeerRow> RequirePeerAsync(string peer, CancellationToken cancellationToken) =>
        await catalog.Peers.FindAsync(peer, cancellationToken) is { RevokedMs: null } row
            ? row
            : throw new FaultException(FaultReason.Denied, $"There is no peer called '{peer}' here any more, or it was revoked.");

    /// <summary>The machines that it may read; null: all.</summary>
    public async ValueTask<IReadOnlySet<Id16>?> ListMachinesAsync(PeerRow peer, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(peer);
        return peer.AllowAll ? null : await catalog.Peers.ListAllowedAsync(peer.Name, cancellationToken);
    }

    /// <exception cref="FaultException"><see cref="FaultReason.Denied"/>.</exception>
    public async ValueTask RequireMachineAsync(string peer, Id16 vm, CancellationToken cancellationToken)
    {
        if (await ListMachinesAsync(await RequirePeerAsync(peer, cancellationToken), cancellationToken) is { } allowed && !allowed.Contains(vm))
        {
            throw new FaultException(FaultReason.Denied, $"The peer '{peer}' may not read the virtual machine {vm} (virtbackup peer allow).");
        }
    }

    /// <summary>
    /// A single record tells no machine: it is for peers that may read all, and for those that points of the same scope came from.
    /// Others get what they miss with the points that they may read.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Denied"/>.</exception>
    public async ValueTask RequireRecordAsync(string peer, Id16 scope, CancellationToken cancellationToken)
    {
        if ((await RequirePeerAsync(peer, cancellationToken)).AllowAll)
        {
            return;
        }
        var given = await catalog.Points.ListOfPeerAsync(peer, cancellationToken);
        if (!(await repository.ListPointsAsync(null, cancellationToken)).Any(point => point.Scope == scope && given.Contains(point.Point)))
        {
            throw new FaultException(FaultReason.Denied, $"The peer '{peer}' may not read single records here: that takes 'virtbackup peer allow --all'.");
        }
    }
}
