using System.Text.Json;
using VirtBackup.Core;
using VirtBackup.Hypervisors;

namespace VirtBackup.Testing.Platforms.VSphere;

/// <summary>
/// A driver for <see cref="VSphereServer"/>. The server keeps nothing that a point could be told by: the change id of each disk
/// is the token stored with the point, and any former id tells the changes since. So every way to end a view only removes its
/// snapshot, and settling removes what was left.
/// </summary>
public sealed class VSphereHypervisor(VSphereServer server, IReadOnlyList<PlatformMachine> machines, ServerLink link) : IHypervisor
{
    public string Kind => "vsphere";

    /// <summary>Disks come as an export that only goes forward, instead of being read at any offset.</summary>
    public bool Exports { get; init; }

    internal ServerLink Link => link;

    internal VSphereServer Server => server;

    public async ValueTask<IReadOnlyList<MachineSummary>> ListMachinesAsync(CancellationToken cancellationToken)
    {
        var summaries = new List<MachineSummary>();
        foreach (var machine in machines)
        {
            try
            {
                var disks = await link.CallAsync("RetrieveMachine", () => server.Find(machine.Id).Disks.Select(disk => Describe(machine.Id, disk, null)).ToList(), cancellationToken);
                summaries.Add(new MachineSummary(machine.Id, machine.Name, Running: true, disks, null));
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
        return [.. state.Snapshots.Select(snapshot => snapshot.Point).Concat(remembered.Where(state.Holds).Select(point => point.Point)).Distinct()];
    }

    public ValueTask<Id16?> SettleAsync(Id16 machine, IReadOnlySet<Id16> committed, CancellationToken cancellationToken) => SettleByTokensAsync(machine, committed, [], cancellationToken);

    public async ValueTask<Id16?> SettleByTokensAsync(Id16 machine, IReadOnlySet<Id16> committed, IReadOnlyList<RememberedPoint> remembered, CancellationToken cancellationToken)
    {
        var state = await LookAsync(machine, cancellationToken);
        foreach (var (id, _) in state.Snapshots)
        {
            await RemoveSnapshotAsync(machine, id, cancellationToken);
        }
        while (await link.CallAsync("LookAtConsolidation", () => server.LookAtConsolidation(machine), cancellationToken) > 0)
        {
            await Task.Yield();
        }
        return remembered.FirstOrDefault(point => committed.Contains(point.Point) && state.Holds(point))?.Point;
    }

    public ValueTask ReleaseGuestsAsync(CancellationToken cancellationToken) => ValueTask.CompletedTask;

    public async ValueTask<CapturePlan> PlanCaptureAsync(CaptureRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        Find(request.Machine);
        var disks = await link.CallAsync("RetrieveMachine", () => server.Find(request.Machine).Disks
            .Select(disk => (Summary: Describe(request.Machine, disk, request.ExcludedDisks), disk.Now)).ToList(), cancellationToken);
        return new CapturePlan(
            [.. disks.Select(disk =>
            {
                var changedOnly = disk.Summary.SkipReason is null && request.Base is not null && Holds(disk.Now, request.BaseTokens.GetValueOrDefault(disk.Summary.Id));
                return new DiskPlan(disk.Summary, changedOnly, disk.Summary.SkipReason is null ? disk.Summary.LengthBytes : 0,
                    disk.Summary.SkipReason is { } skip ? $"not captured: {skip}" : changedOnly ? "changed blocks only" : "read in full");
            })], 0, server.Datastore.FreeBytes);
    }

    public async ValueTask<ICapture> BeginCaptureAsync(CaptureRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var machine = Find(request.Machine);
        var disks = await link.CallAsync("RetrieveMachine", () => server.Find(machine.Id).Disks.Select(disk => Describe(machine.Id, disk, request.ExcludedDisks)).ToList(), cancellationToken);
        var state = await LookAsync(machine.Id, cancellationToken);
        if (state.Snapshots.Count > 0)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The machine {machine.Name} still carries an earlier capture; settle it first.");
        }
        if (disks.All(disk => disk.SkipReason is not null))
        {
            throw new FaultException(FaultReason.Unsupported, $"The machine {machine.Name} has no disk that can be captured.");
        }
        try
        {
            await link.CallAsync("EnableChangeTracking", () => server.EnableChangeTracking(machine.Id), cancellationToken);
            var snapshot = await link.CallAsync("CreateSnapshot", () => server.CreateSnapshot(machine.Id, PlatformNames.Of(request.Point)), cancellationToken);
            var captured = new List<VSphereCapturedDisk>();
            foreach (var disk in disks.Where(disk => disk.SkipReason is null))
            {
                var frozen = snapshot.Disks.Single(candidate => DiskId(machine.Id, candidate.Key) == disk.Id);
                captured.Add(await VSphereCapturedDisk.OpenAsync(this, request, disk with { LengthBytes = frozen.Content.Length }, snapshot.Id, frozen, cancellationToken));
            }
            return new VSphereCapture(this, machine, snapshot.Id, captured, [.. disks.Where(disk => disk.SkipReason is not null)]);
        }
        catch
        {
            await UndoAsync(machine.Id, request.Point);
            throw;
        }
    }

    public ValueTask<IReadOnlyList<RestoreFinding>> CheckRestoreAsync(RestoreRequest request, CancellationToken cancellationToken) =>
        DatastoreRestore.CheckAsync(link, server.Datastore, request, "vmdk", cancellationToken);

    public ValueTask<IRestore> BeginRestoreAsync(RestoreRequest request, CancellationToken cancellationToken) =>
        DatastoreRestore.BeginAsync(link, server.Datastore, request, "vmdk", cancellationToken);

    internal async ValueTask RemoveSnapshotAsync(Id16 machine, string id, CancellationToken cancellationToken)
    {
        try
        {
            await link.CallAsync("RemoveSnapshot", () => server.RemoveSnapshot(machine, id), cancellationToken);
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.NotFound)
        {
            // Somebody else removed it, or this call's first answer was lost.
        }
    }

    internal static MachineConfiguration Describe(PlatformMachine machine, IEnumerable<DiskSummary> disks) => new(
        machine.Name, JsonSerializer.SerializeToElement(new { name = machine.Name, disks = disks.Select(disk => new { id = disk.Id.ToString(), bytes = disk.LengthBytes }) }), "vmx", default);

    private static DiskSummary Describe(Id16 machine, VSphereDisk disk, IReadOnlySet<string>? excluded) => new(
        DiskId(machine, disk.Key), disk.Label, disk.Content.Length, "vmdk", disk.OutsideSnapshots ?? (excluded?.Contains(disk.Label) == true ? "it is excluded" : null));

    private static Id16 DiskId(Id16 machine, int key) => PlatformNames.DiskId(machine, $"{key}");

    private static bool Holds(ChangeId now, string? token) =>
        token is not null && ChangeId.TryParse(token, out var since) && since.Tracking == now.Tracking && since.Sequence <= now.Sequence;

    private PlatformMachine Find(Id16 id) => machines.FirstOrDefault(machine => machine.Id == id)
        ?? throw new FaultException(FaultReason.NotFound, $"No machine {id} is configured.");

    private async ValueTask<State> LookAsync(Id16 machine, CancellationToken cancellationToken)
    {
        Find(machine);
        return await link.CallAsync("RetrieveSnapshots", () =>
        {
            var found = server.Find(machine);
            return new State(
                [.. from snapshot in found.Snapshots let point = PlatformNames.FindPoint(snapshot.Name) where point is not null select (snapshot.Id, point.Value)],
                found.Disks.ToDictionary(disk => DiskId(machine, disk.Key), disk => disk.Now));
        }, cancellationToken);
    }

    private async Task UndoAsync(Id16 machine, Id16 point)
    {
        try
        {
            var state = await LookAsync(machine, CancellationToken.None);
            foreach (var (id, _) in state.Snapshots.Where(snapshot => snapshot.Point == point))
            {
                await RemoveSnapshotAsync(machine, id, CancellationToken.None);
            }
        }
        catch (FaultException)
        {
            // The first failure tells more; what is left, the next settlement removes.
        }
    }

    /// <param name="Snapshots">Ours.</param>
    private sealed record State(IReadOnlyList<(string Id, Id16 Point)> Snapshots, IReadOnlyDictionary<Id16, ChangeId> Disks)
    {
        public bool Holds(RememberedPoint point) => point.BaseTokens.Any(token => Disks.TryGetValue(token.Key, out var now) && VSphereHypervisor.Holds(now, token.Value));
    }
}
