using VirtBackup.Agent.Capture;
using VirtBackup.Agent.Flow;
using VirtBackup.Agent.Records;
using VirtBackup.Agent.State;
using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Hypervisors;
using VirtBackup.Protocol.Store.V1;

namespace VirtBackup.Agent.Restore.InPlace;

/// <summary>
/// Finds the map of what an existing disk held when its change tracking began: the point's own, or one that this agent made
/// and remembers, and that the repository still has. Without one, the whole disk is compared.
/// </summary>
internal sealed class KnownDisk(BackupContext context, Id16 machine, Id16 point, Func<Id16, NodeSource> nodesOf, RunProgress progress)
{
    public async Task<KnownContent?> FindAsync(IExistingDisk disk, ManifestStream stream, CancellationToken cancellationToken)
    {
        if (disk.TrackedSince is not { } since)
        {
            progress.Log($"Disk {disk.Disk.Name}: all of it is compared: {disk.TrackingDetail}.");
            return null;
        }
        var record = (await context.Bases.LoadAsync(machine, cancellationToken))
            .Concat(context.Restored is { } restored ? await restored.LoadAsync(machine, cancellationToken) : []).FirstOrDefault(candidate => candidate.Point == since);
        if (record?.Suspicion is { } suspicion)
        {
            progress.Log($"Disk {disk.Disk.Name}: all of it is compared, since its change tracking is not to be trusted: {suspicion}.");
            return null;
        }
        var root = since == point ? stream.Root : await FindRootAsync(record, disk, stream, cancellationToken);
        if (root is null)
        {
            progress.Log($"Disk {disk.Disk.Name}: all of it is compared: its changes are known since recovery point {since}, whose map is not at hand.");
            return null;
        }
        progress.Log($"Disk {disk.Disk.Name}: {disk.ChangedExtents.Sum(extent => extent.Length)} bytes changed since recovery point {since}; these are compared, and what differs between the points.");
        return new KnownContent(nodesOf(since), root.Value, new SortedExtents(disk.ChangedExtents));
    }

    private async Task<Id32?> FindRootAsync(BaseRecord? record, IExistingDisk disk, ManifestStream stream, CancellationToken cancellationToken)
    {
        var known = record?.Disks.FirstOrDefault(
            candidate => candidate.Disk == disk.Disk.Id && candidate.LengthBytes == stream.Geometry.StreamLength && candidate.Shape == stream.Geometry.Shape);
        if (known is null)
        {
            return null;
        }
        var since = record!.Point.ToString();
        var request = new FindRecoveryPointsRequest { VmId = machine.ToString() };
        request.PointIds.Add(since);
        return (await context.Store.FindRecoveryPointsAsync(request, cancellationToken)).CommittedPointIds.Contains(since) ? known.Root : null;
    }
}
