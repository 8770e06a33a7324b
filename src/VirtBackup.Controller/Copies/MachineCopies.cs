using VirtBackup.Catalog;
using VirtBackup.Core;

namespace VirtBackup.Controller.Copies;

/// <summary>A recovery point at a place. <paramref name="LockedUntilMs"/>: Unix milliseconds; 0: not locked.</summary>
internal readonly record struct PointPlace(PlaceInfo Place, long LockedUntilMs);

/// <summary>A recovery point of the repository, and where it is whole.</summary>
internal sealed record CopiedPoint(PointRow Row, IReadOnlyList<PointPlace> Places);

/// <summary>Where a machine's recovery points are, newest first, as far as it is known.</summary>
/// <param name="Holders">Peers that have any of them.</param>
/// <param name="Readers">Peers that may read the machine.</param>
internal sealed record MachineCopies(Id16 Vm, string Name, IReadOnlyList<CopiedPoint> Points, IReadOnlySet<string> Holders, IReadOnlySet<string> Readers)
{
    public static async ValueTask<MachineCopies> ReadAsync(CopyParts parts, KnownPlaces places, Id16 vm, CancellationToken cancellationToken)
    {
        var rows = await parts.Catalog.Points.ListOfMachineAsync(vm, cancellationToken);
        var here = (await parts.Repository.ListPointsAsync(vm, cancellationToken)).ToDictionary(static point => point.Point);
        var copies = (await parts.Catalog.Copies.ListOfMachineAsync(vm, cancellationToken)).FindAll(static copy => copy.Whole).ToLookup(static copy => copy.PointId);
        var receipts = await parts.Catalog.Receipts.ListOfMachineAsync(vm, cancellationToken);
        var told = receipts.ToLookup(static receipt => receipt.PointId);
        var points = rows.ConvertAll(row => new CopiedPoint(row,
        [
            .. here.TryGetValue(row.PointId, out var info) && info.IsComplete ? [new PointPlace(places.Repository, 0)] : Array.Empty<PointPlace>(),
            .. copies[row.PointId].Select(copy => (Place: places.FindStore(copy.Store), copy.LockedUntilMs)).Where(static found => found.Place is not null)
                .Select(static found => new PointPlace(found.Place!, found.LockedUntilMs)),
            .. told[row.PointId].Select(receipt => (Place: places.FindPeer(receipt.Peer), receipt.LockedUntilMs)).Where(static found => found.Place is not null)
                .Select(static found => new PointPlace(found.Place!, found.LockedUntilMs)),
        ]));
        var readers = new HashSet<string>(StringComparer.Ordinal);
        foreach (var peer in places.PeerRows)
        {
            if (peer.AllowAll || (await parts.Catalog.Peers.ListAllowedAsync(peer.Name, cancellationToken)).Contains(vm))
            {
                readers.Add(peer.Name);
            }
        }
        var name = rows.FirstOrDefault()?.VmName ?? (await parts.Catalog.Machines.FindAsync(vm, cancellationToken))?.Name ?? vm.ToString();
        return new MachineCopies(vm, name, points, receipts.Select(static receipt => receipt.Peer).ToHashSet(StringComparer.Ordinal), readers);
    }
}
