using System.Text.Json;
using VirtBackup.Core;
using VirtBackup.Hypervisors;

namespace VirtBackup.Testing.Platforms.HyperV;

/// <summary>
/// A driver for <see cref="HyperVServer"/>. A point's tracking is a checkpoint with its name until the point is committed, then
/// a reference point without a name: which point it belongs to tell the tracking ids, the tokens stored with the point.
/// </summary>
public sealed class HyperVHypervisor(HyperVServer server, IReadOnlyList<PlatformMachine> machines, ServerLink link) : IHypervisor
{
    public string Kind => "hyperv";

    internal ServerLink Link => link;

    internal HyperVServer Server => server;

    public async ValueTask<IReadOnlyList<MachineSummary>> ListMachinesAsync(CancellationToken cancellationToken)
    {
        var summaries = new List<MachineSummary>();
        foreach (var machine in machines)
        {
            try
            {
                summaries.Add(new MachineSummary(machine.Id, machine.Name, Running: true, await ListDisksAsync(machine.Id, null, cancellationToken), null));
            }
            catch (FaultException fault)
            {
                summaries.Add(new MachineSummary(machine.Id, machine.Name, Running: false, [], fault.Message));
            }
        }
        return summaries;
    }

    public ValueTask<IReadOnlyList<Id16>> ListTrackedPointsAsync(Id16 machine, CancellationToken cancellationToken) => ListPointsByTokensAsync(machine, [], cancellationToken);

    public async ValueTask<IReadOnlyList<Id16>> ListPointsByTokensAsync(Id16 machine, IReadOnlyList<RememberedPoint> remembered, CancellationToken cancellationToken)
    {
        var state = await LookAsync(machine, cancellationToken);
        return [.. state.Checkpoints.Select(checkpoint => checkpoint.Point)
            .Concat(remembered.Where(point => state.References.Any(reference => IsOf(reference, point.BaseTokens.Values))).Select(point => point.Point)).Distinct()];
    }

    public ValueTask<Id16?> SettleAsync(Id16 machine, IReadOnlySet<Id16> committed, CancellationToken cancellationToken) => SettleByTokensAsync(machine, committed, [], cancellationToken);

    public async ValueTask<Id16?> SettleByTokensAsync(Id16 machine, IReadOnlySet<Id16> committed, IReadOnlyList<RememberedPoint> remembered, CancellationToken cancellationToken)
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
        while (await link.CallAsync("LookAtMerge", () => server.LookAtMerge(machine), cancellationToken) > 0)
        {
            await Task.Yield();
        }
        var references = (await LookAsync(machine, cancellationToken)).References;
        var kept = remembered.FirstOrDefault(point => committed.Contains(point.Point) && references.Any(reference => IsOf(reference, point.BaseTokens.Values)));
        await DestroyReferencesAsync(machine, references, remembered.Where(point => point != kept).SelectMany(point => point.BaseTokens.Values), cancellationToken);
        return kept?.Point;
    }

    public ValueTask ReleaseGuestsAsync(CancellationToken cancellationToken) => ValueTask.CompletedTask;

    public async ValueTask<CapturePlan> PlanCaptureAsync(CaptureRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var disks = await ListDisksAsync(Find(request.Machine).Id, request.ExcludedDisks, cancellationToken);
        var references = (await LookAsync(request.Machine, cancellationToken)).References;
        return new CapturePlan(
            [.. disks.Select(disk =>
            {
                var changedOnly = disk.SkipReason is null && request.Base is not null && request.BaseTokens.TryGetValue(disk.Id, out var token) && references.Any(reference => IsOf(reference, [token]));
                return new DiskPlan(disk, changedOnly, disk.SkipReason is null ? disk.LengthBytes : 0,
                    disk.SkipReason is { } skip ? $"not captured: {skip}" : changedOnly ? "changed blocks only" : "read in full");
            })], 0, server.Datastore.FreeBytes);
    }

    public async ValueTask<ICapture> BeginCaptureAsync(CaptureRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var machine = Find(request.Machine);
        var disks = await ListDisksAsync(machine.Id, request.ExcludedDisks, cancellationToken);
        if ((await LookAsync(machine.Id, cancellationToken)).Checkpoints.Count > 0)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The machine {machine.Name} still carries an earlier capture; settle it first.");
        }
        if (disks.All(disk => disk.SkipReason is not null))
        {
            throw new FaultException(FaultReason.Unsupported, $"The machine {machine.Name} has no disk that can be captured.");
        }
        try
        {
            var checkpoint = await link.CallAsync("CreateCheckpoint", () => server.CreateCheckpoint(machine.Id, PlatformNames.Of(request.Point)), cancellationToken);
            var captured = new List<HyperVCapturedDisk>();
            foreach (var disk in disks.Where(disk => disk.SkipReason is null))
            {
                var frozen = checkpoint.Disks.Single(candidate => candidate.Path == disk.Name);
                captured.Add(await HyperVCapturedDisk.OpenAsync(this, request, disk with { LengthBytes = frozen.Content.Length }, checkpoint.Id, frozen, cancellationToken));
            }
            return new HyperVCapture(this, machine, checkpoint.Id, request.BaseTokens, captured, [.. disks.Where(disk => disk.SkipReason is not null)]);
        }
        catch
        {
            await UndoAsync(machine.Id, request.Point);
            throw;
        }
    }

    public ValueTask<IReadOnlyList<RestoreFinding>> CheckRestoreAsync(RestoreRequest request, CancellationToken cancellationToken) =>
        DatastoreRestore.CheckAsync(link, server.Datastore, request, "vhdx", cancellationToken);

    public ValueTask<IRestore> BeginRestoreAsync(RestoreRequest request, CancellationToken cancellationToken) =>
        DatastoreRestore.BeginAsync(link, server.Datastore, request, "vhdx", cancellationToken);

    internal static MachineConfiguration Describe(PlatformMachine machine, IEnumerable<DiskSummary> disks) => new(
        machine.Name, JsonSerializer.SerializeToElement(new { name = machine.Name, disks = disks.Select(disk => new { id = disk.Id.ToString(), bytes = disk.LengthBytes }) }), "vmcx", default);

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

    // An answer that was lost, or another hand: what is gone need not go.
    private async ValueTask UnlessGoneAsync(string operation, Action work, CancellationToken cancellationToken)
    {
        try
        {
            await link.CallAsync(operation, work, cancellationToken);
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.NotFound)
        {
            // Gone.
        }
    }

    private static bool IsOf(HyperVReferencePoint reference, IEnumerable<string> trackingIds) => reference.TrackingIds.Intersect(trackingIds, StringComparer.Ordinal).Any();

    private ValueTask<List<DiskSummary>> ListDisksAsync(Id16 machine, IReadOnlySet<string>? excluded, CancellationToken cancellationToken) => link.CallAsync("ListDisks", () =>
        server.Find(machine).Disks.Select(disk => new DiskSummary(PlatformNames.DiskId(machine, disk.Path), disk.Path, disk.Content.Length, "vhdx",
            disk.Passthrough ?? (excluded?.Contains(disk.Path) == true ? "it is excluded" : null))).ToList(), cancellationToken);

    private PlatformMachine Find(Id16 id) => machines.FirstOrDefault(machine => machine.Id == id)
        ?? throw new FaultException(FaultReason.NotFound, $"No machine {id} is configured.");

    private async ValueTask<State> LookAsync(Id16 machine, CancellationToken cancellationToken)
    {
        Find(machine);
        return await link.CallAsync("ListCheckpoints", () =>
        {
            var found = server.Find(machine);
            return new State(
                [.. from checkpoint in found.Checkpoints let point = PlatformNames.FindPoint(checkpoint.Name) where point is not null select (checkpoint.Id, point.Value)],
                [.. found.ReferencePoints]);
        }, cancellationToken);
    }

    private async Task UndoAsync(Id16 machine, Id16 point)
    {
        try
        {
            foreach (var (id, _) in (await LookAsync(machine, CancellationToken.None)).Checkpoints.Where(checkpoint => checkpoint.Point == point))
            {
                await DestroyCheckpointAsync(machine, id, CancellationToken.None);
            }
        }
        catch (FaultException)
        {
            // The first failure tells more; what is left, the next settlement removes.
        }
    }

    /// <param name="Checkpoints">Ours.</param>
    /// <param name="References">All.</param>
    private sealed record State(IReadOnlyList<(string Id, Id16 Point)> Checkpoints, IReadOnlyList<HyperVReferencePoint> References);
}
