using System.Globalization;
using VirtBackup.Catalog;
using VirtBackup.Controller.Store;
using VirtBackup.Core;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Protocol.Replication.V1;
using VirtBackup.Repository;
using VirtBackup.Repository.Points;
using VirtBackup.Repository.Replication;

namespace VirtBackup.Controller.Replication.Source;

/// <summary>What a peer is told of the points here.</summary>
/// <param name="Id">Names what <paramref name="Position"/> counts.</param>
internal sealed record PointListing(string Id, ulong Position, IReadOnlyList<RecoveryPointInfo> Points);

/// <summary>Lists points for peers: only what they may read. Safe for concurrent use.</summary>
internal sealed class PointListings(BackupRepository repository, CatalogDatabase catalog, PointDescriber describer, PeerAccess access, TimeProvider time)
{
    /// <summary>What a peer may read may change while it waits.</summary>
    private static readonly TimeSpan LookAgain = TimeSpan.FromSeconds(5);

    /// <param name="machines">Only these; none: all.</param>
    /// <param name="listingId">As told before.</param>
    /// <param name="after">The position told before.</param>
    /// <param name="wait">For so long, while there is nothing new.</param>
    public async ValueTask<PointListing> FindAsync(
        string peer, IReadOnlySet<Id16> machines, string listingId, ulong after, TimeSpan wait, CancellationToken cancellationToken)
    {
        var start = time.GetTimestamp();
        while (true)
        {
            var row = await access.RequirePeerAsync(peer, cancellationToken);
            var allowed = await access.ListMachinesAsync(row, cancellationToken);
            var selected = machines.Count == 0 ? allowed : allowed is null ? machines : machines.Where(allowed.Contains).ToHashSet();
            var id = string.Create(CultureInfo.InvariantCulture, $"{repository.Generation}.{row.AllowedRevision}");
            var cursor = id == listingId && after <= long.MaxValue ? new ReplicaCursor(repository.Generation, (long)after) : default;
            var listing = await repository.Serving.ListAsync(selected, cursor, cancellationToken);
            var left = wait - time.GetElapsedTime(start);
            if (listing.Points.Count > 0 || id != listingId || left <= TimeSpan.Zero)
            {
                return new PointListing(id, (ulong)listing.Next.Number, listing.Points);
            }
            await WaitAsync(listing.Next, left < LookAgain ? left : LookAgain, cancellationToken);
        }
    }

    public async ValueTask<ListedPoint> DescribeAsync(RecoveryPointInfo info, CancellationToken cancellationToken)
    {
        var listed = new ListedPoint
        {
            PointId = info.Point.ToString(), VmId = info.Vm.ToString(), Sequence = (ulong)info.Sequence, CreatedMs = info.CreatedMs, ManifestHash = Google.Protobuf.ByteString.CopyFrom(info.ManifestHash.ToArray()),
            OriginId = repository.Head.Uuid.ToString(),
        };
        // The catalog follows the repository: a point that was committed just now may not be there yet.
        if ((await catalog.Points.FindAsync(info.Point, cancellationToken) ?? await TryDescribeAsync(info.Point, cancellationToken)) is { } row)
        {
            listed.VmName = WireText.Shortened(row.VmName, 256);
            listed.OriginId = (row.Origin.IsEmpty ? repository.Head.Uuid : row.Origin).ToString();
            listed.LogicalBytes = (ulong)row.LogicalBytes;
            listed.HypervisorKind = WireText.Shortened(row.HypervisorKind, 64);
            listed.Agent = WireText.Shortened(row.Agent, 63);
            listed.Consistency = (Consistency)row.Consistency;
            listed.ConsistencyDetail = WireText.Shortened(row.ConsistencyDetail, 256);
        }
        return listed;
    }

    private async ValueTask<PointRow?> TryDescribeAsync(Id16 point, CancellationToken cancellationToken)
    {
        try
        {
            return await describer.DescribeAsync(point, cancellationToken);
        }
        catch (FaultException)
        {
            // What is damaged, or was forgotten meanwhile, is told when the point is asked for.
            return null;
        }
    }

    private async ValueTask WaitAsync(ReplicaCursor cursor, TimeSpan wait, CancellationToken cancellationToken)
    {
        using var patience = new CancellationTokenSource(wait, time);
        using var scope = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, patience.Token);
        try
        {
            await repository.Serving.WaitAsync(cursor, scope.Token);
        }
        catch (OperationCanceledException) when (patience.IsCancellationRequested && !cancellationToken.IsCancellationRequested)
        {
            // Nothing came.
        }
    }
}
