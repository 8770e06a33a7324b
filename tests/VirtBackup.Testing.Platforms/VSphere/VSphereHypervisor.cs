using VirtBackup.Core;
using VirtBackup.Hypervisors;

namespace VirtBackup.Testing.Platforms.VSphere;

/// <summary>
/// A driver for <see cref="VSphereServer"/>. The server keeps nothing that a point could be told by: the change id of each disk
/// is the token stored with the point, and any former id tells the changes since. So every way to end a view only removes its
/// snapshot, and settling removes what was left.
/// </summary>
public sealed class VSphereHypervisor(VSphereServer server, IReadOnlyList<PlatformMachine> machines, ServerLink link)
    : ServerHypervisor(machines, link, server.Datastore, diskFormat: "vmdk", nativeKind: "vmx")
{
    public override string Kind => "vsphere";

    /// <summary>Disks come as an export that only goes forward, instead of being read at any offset.</summary>
    public bool Exports { get; init; }

    internal VSphereServer Server => server;

    public override async ValueTask<IReadOnlyList<Id16>> ListPointsByTokensAsync(Id16 machine, IReadOnlyList<RememberedPoint> remembered, CancellationToken cancellationToken)
    {
        var state = await LookAsync(machine, cancellationToken);
        return [.. state.Snapshots.Select(snapshot => snapshot.Point).Concat(remembered.Where(state.Holds).Select(point => point.Point)).Distinct()];
    }

    public override async ValueTask<Id16?> SettleByTokensAsync(Id16 machine, IReadOnlySet<Id16> committed, IReadOnlyList<RememberedPoint> remembered, CancellationToken cancellationToken)
    {
        var state = await LookAsync(machine, cancellationToken);
        foreach (var (id, _) in state.Snapshots)
        {
            await RemoveSnapshotAsync(machine, id, cancellationToken);
        }
        while (await Link.CallAsync("LookAtConsolidation", () => server.LookAtConsolidation(machine), cancellationToken) > 0)
        {
            await Task.Yield();
        }
        return remembered.FirstOrDefault(point => committed.Contains(point.Point) && state.Holds(point))?.Point;
    }

    internal ValueTask RemoveSnapshotAsync(Id16 machine, string id, CancellationToken cancellationToken) =>
        UnlessGoneAsync("RemoveSnapshot", () => server.RemoveSnapshot(machine, id), cancellationToken);

    protected override ValueTask<List<DiskSummary>> ListDisksAsync(Id16 machine, IReadOnlySet<string> excluded, CancellationToken cancellationToken) => Link.CallAsync(
        "RetrieveMachine", () => server.Find(machine).Disks.Select(disk => Describe(machine, $"{disk.Key}", disk.Label, disk.Content.Length, disk.OutsideSnapshots, excluded)).ToList(), cancellationToken);

    protected override async ValueTask<Func<Id16, string, bool>> FindTokensAsync(Id16 machine, CancellationToken cancellationToken)
    {
        var state = await LookAsync(machine, cancellationToken);
        return (disk, token) => state.Disks.TryGetValue(disk, out var now) && Holds(now, token);
    }

    protected override async ValueTask<IReadOnlyList<(string Id, Id16 Point)>> ListViewsAsync(Id16 machine, CancellationToken cancellationToken) =>
        (await LookAsync(machine, cancellationToken)).Snapshots;

    protected override ValueTask RemoveViewAsync(Id16 machine, string id, CancellationToken cancellationToken) => RemoveSnapshotAsync(machine, id, cancellationToken);

    protected override async ValueTask<ICapture> CutAsync(CaptureRequest request, PlatformMachine machine, IReadOnlyList<DiskSummary> disks, CancellationToken cancellationToken)
    {
        await Link.CallAsync("EnableChangeTracking", () => server.EnableChangeTracking(machine.Id), cancellationToken);
        var snapshot = await Link.CallAsync("CreateSnapshot", () => server.CreateSnapshot(machine.Id, PlatformNames.Of(request.Point)), cancellationToken);
        var captured = new List<VSphereCapturedDisk>();
        foreach (var disk in disks.Where(disk => disk.SkipReason is null))
        {
            var frozen = snapshot.Disks.Single(candidate => DiskId(machine.Id, candidate.Key) == disk.Id);
            captured.Add(await VSphereCapturedDisk.OpenAsync(this, request, disk with { LengthBytes = frozen.Content.Length }, snapshot.Id, frozen, cancellationToken));
        }
        return new VSphereCapture(this, machine, snapshot.Id, captured, disks);
    }

    private static Id16 DiskId(Id16 machine, int key) => PlatformNames.DiskId(machine, $"{key}");

    private static bool Holds(ChangeId now, string? token) =>
        token is not null && ChangeId.TryParse(token, out var since) && since.Tracking == now.Tracking && since.Sequence <= now.Sequence;

    private async ValueTask<State> LookAsync(Id16 machine, CancellationToken cancellationToken)
    {
        Find(machine);
        return await Link.CallAsync("RetrieveSnapshots", () =>
        {
            var found = server.Find(machine);
            return new State(
                [.. from snapshot in found.Snapshots let point = PlatformNames.FindPoint(snapshot.Name) where point is not null select (snapshot.Id, point.Value)],
                found.Disks.ToDictionary(disk => DiskId(machine, disk.Key), disk => disk.Now));
        }, cancellationToken);
    }

    /// <param name="Snapshots">Ours.</param>
    private sealed record State(IReadOnlyList<(string Id, Id16 Point)> Snapshots, IReadOnlyDictionary<Id16, ChangeId> Disks)
    {
        public bool Holds(RememberedPoint point) => point.BaseTokens.Any(token => Disks.TryGetValue(token.Key, out var now) && VSphereHypervisor.Holds(now, token.Value));
    }
}
