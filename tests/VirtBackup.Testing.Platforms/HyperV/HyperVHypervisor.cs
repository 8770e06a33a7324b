using VirtBackup.Core;
using VirtBackup.Hypervisors;

namespace VirtBackup.Testing.Platforms.HyperV;

/// <summary>
/// A driver for <see cref="HyperVServer"/>. A point's tracking is a checkpoint with its name until the point is committed, then
/// a reference point without a name: which point it belongs to tell the tracking ids, the tokens stored with the point.
/// </summary>
public sealed class HyperVHypervisor(HyperVServer server, IReadOnlyList<PlatformMachine> machines, ServerLink link)
    : ServerHypervisor(machines, link, server.Datastore, diskFormat: "vhdx", nativeKind: "vmcx")
{
    public override string Kind => "hyperv";

    internal HyperVServer Server => server;

    public override async ValueTask<IReadOnlyList<Id16>> ListPointsByTokensAsync(Id16 machine, IReadOnlyList<RememberedPoint> remembered, CancellationToken cancellationToken)
    {
        var state = await LookAsync(machine, cancellationToken);
        return [.. state.Checkpoints.Select(checkpoint => checkpoint.Point)
            .Concat(remembered.Where(point => state.References.Any(reference => IsOf(reference, point.BaseTokens.Values))).Select(point => point.Point)).Distinct()];
    }

    public override async ValueTask<Id16?> SettleByTokensAsync(Id16 machine, IReadOnlySet<Id16> committed, IReadOnlyList<RememberedPoint> remembered, CancellationToken cancellationToken)
    {
        foreach (var (id, point) in (await LookAsync(machine, cancellationToken)).Checkpoints)
        {
            // One that nobody remembers could never be asked for again.
            if (committed.Contains(point) && remembered.Any(known => known.Point == point))
            {
                await ConvertAsync(machine, id, cancellationToken);
            }
            else
            {
                await DestroyCheckpointAsync(machine, id, cancellationToken);
            }
        }
        while (await Link.CallAsync("LookAtMerge", () => server.LookAtMerge(machine), cancellationToken) > 0)
        {
            await Task.Yield();
        }
        var references = (await LookAsync(machine, cancellationToken)).References;
        var kept = remembered.FirstOrDefault(point => committed.Contains(point.Point) && references.Any(reference => IsOf(reference, point.BaseTokens.Values)));
        await DestroyReferencesAsync(machine, references, remembered.Where(point => point != kept).SelectMany(point => point.BaseTokens.Values), cancellationToken);
        return kept?.Point;
    }

    internal ValueTask ConvertAsync(Id16 machine, string checkpoint, CancellationToken cancellationToken) =>
        UnlessGoneAsync("ConvertToReferencePoint", () => server.ConvertToReferencePoint(machine, checkpoint), cancellationToken);

    internal ValueTask DestroyCheckpointAsync(Id16 machine, string checkpoint, CancellationToken cancellationToken) =>
        UnlessGoneAsync("DestroyCheckpoint", () => server.DestroyCheckpoint(machine, checkpoint), cancellationToken);

    /// <summary>Destroys the reference points that carry one of these tracking ids.</summary>
    internal async ValueTask DestroyReferencesAsync(Id16 machine, IEnumerable<string> trackingIds, CancellationToken cancellationToken) =>
        await DestroyReferencesAsync(machine, (await LookAsync(machine, cancellationToken)).References, trackingIds, cancellationToken);

    private async ValueTask DestroyReferencesAsync(Id16 machine, IReadOnlyList<HyperVReferencePoint> references, IEnumerable<string> trackingIds, CancellationToken cancellationToken)
    {
        var ids = trackingIds.ToHashSet(StringComparer.Ordinal);
        foreach (var reference in references.Where(reference => IsOf(reference, ids)))
        {
            await UnlessGoneAsync("DestroyReferencePoint", () => server.DestroyReferencePoint(machine, reference.Id), cancellationToken);
        }
    }

    private static bool IsOf(HyperVReferencePoint reference, IEnumerable<string> trackingIds) => reference.TrackingIds.Intersect(trackingIds, StringComparer.Ordinal).Any();

    protected override ValueTask<List<DiskSummary>> ListDisksAsync(Id16 machine, IReadOnlySet<string> excluded, CancellationToken cancellationToken) => Link.CallAsync(
        "ListDisks", () => server.Find(machine).Disks.Select(disk => Describe(machine, disk.Path, disk.Path, disk.Content.Length, disk.Passthrough, excluded)).ToList(), cancellationToken);

    protected override async ValueTask<Func<Id16, string, bool>> FindTokensAsync(Id16 machine, CancellationToken cancellationToken)
    {
        var references = (await LookAsync(machine, cancellationToken)).References;
        return (_, token) => references.Any(reference => IsOf(reference, [token]));
    }

    protected override async ValueTask<IReadOnlyList<(string Id, Id16 Point)>> ListViewsAsync(Id16 machine, CancellationToken cancellationToken) =>
        (await LookAsync(machine, cancellationToken)).Checkpoints;

    protected override ValueTask RemoveViewAsync(Id16 machine, string id, CancellationToken cancellationToken) => DestroyCheckpointAsync(machine, id, cancellationToken);

    protected override async ValueTask<ICapture> CutAsync(CaptureRequest request, PlatformMachine machine, IReadOnlyList<DiskSummary> disks, CancellationToken cancellationToken)
    {
        var checkpoint = await Link.CallAsync("CreateCheckpoint", () => server.CreateCheckpoint(machine.Id, PlatformNames.Of(request.Point)), cancellationToken);
        var captured = new List<HyperVCapturedDisk>();
        foreach (var disk in disks.Where(disk => disk.SkipReason is null))
        {
            var frozen = checkpoint.Disks.Single(candidate => candidate.Path == disk.Name);
            captured.Add(await HyperVCapturedDisk.OpenAsync(this, request, disk with { LengthBytes = frozen.Content.Length }, checkpoint.Id, frozen, cancellationToken));
        }
        return new HyperVCapture(this, machine, checkpoint.Id, request.BaseTokens.Values, captured, disks);
    }

    private async ValueTask<State> LookAsync(Id16 machine, CancellationToken cancellationToken)
    {
        Find(machine);
        return await Link.CallAsync("ListCheckpoints", () =>
        {
            var found = server.Find(machine);
            return new State(
                [.. from checkpoint in found.Checkpoints let point = PlatformNames.FindPoint(checkpoint.Name) where point is not null select (checkpoint.Id, point.Value)],
                [.. found.ReferencePoints]);
        }, cancellationToken);
    }

    /// <param name="Checkpoints">Ours.</param>
    /// <param name="References">All.</param>
    private sealed record State(IReadOnlyList<(string Id, Id16 Point)> Checkpoints, IReadOnlyList<HyperVReferencePoint> References);
}
