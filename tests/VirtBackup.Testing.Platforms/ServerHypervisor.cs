using System.Text.Json;
using VirtBackup.Core;
using VirtBackup.Hypervisors;

namespace VirtBackup.Testing.Platforms;

/// <summary>What the drivers here have in common: a server with machines behind a link, disks restored onto its datastore.</summary>
/// <param name="diskFormat">The only one that the server knows.</param>
/// <param name="nativeKind">Of the machine's description.</param>
public abstract class ServerHypervisor(
    IReadOnlyList<PlatformMachine> machines, ServerLink link, MemoryDatastore datastore, string diskFormat, string nativeKind) : IHypervisor
{
    public abstract string Kind { get; }

    internal ServerLink Link => link;

    public async ValueTask<IReadOnlyList<MachineSummary>> ListMachinesAsync(CancellationToken cancellationToken)
    {
        var summaries = new List<MachineSummary>();
        foreach (var machine in machines)
        {
            try
            {
                summaries.Add(new MachineSummary(machine.Id, machine.Name, Running: true, await ListDisksAsync(machine.Id, new HashSet<string>(), cancellationToken), null));
            }
            catch (FaultException fault)
            {
                summaries.Add(new MachineSummary(machine.Id, machine.Name, Running: false, [], fault.Message));
            }
        }
        return summaries;
    }

    public ValueTask<IReadOnlyList<Id16>> ListTrackedPointsAsync(Id16 machine, CancellationToken cancellationToken) => ListPointsByTokensAsync(machine, [], cancellationToken);

    public abstract ValueTask<IReadOnlyList<Id16>> ListPointsByTokensAsync(Id16 machine, IReadOnlyList<RememberedPoint> remembered, CancellationToken cancellationToken);

    public ValueTask<Id16?> SettleAsync(Id16 machine, IReadOnlySet<Id16> committed, CancellationToken cancellationToken) => SettleByTokensAsync(machine, committed, [], cancellationToken);

    public abstract ValueTask<Id16?> SettleByTokensAsync(
        Id16 machine, IReadOnlySet<Id16> committed, IReadOnlyList<RememberedPoint> remembered, CancellationToken cancellationToken);

    public ValueTask ReleaseGuestsAsync(CancellationToken cancellationToken) => ValueTask.CompletedTask;

    public async ValueTask<CapturePlan> PlanCaptureAsync(CaptureRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var disks = await ListDisksAsync(Find(request.Machine).Id, request.ExcludedDisks, cancellationToken);
        var holds = await FindTokensAsync(request.Machine, cancellationToken);
        return new CapturePlan(
            [.. disks.Select(disk =>
            {
                var changedOnly = disk.SkipReason is null && request.Base is not null && request.BaseTokens.TryGetValue(disk.Id, out var token) && holds(disk.Id, token);
                return new DiskPlan(disk, changedOnly, disk.SkipReason is null ? disk.LengthBytes : 0,
                    disk.SkipReason is { } skip ? $"not captured: {skip}" : changedOnly ? "changed blocks only" : "read in full");
            })], 0, datastore.FreeBytes);
    }

    public async ValueTask<ICapture> BeginCaptureAsync(CaptureRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var machine = Find(request.Machine);
        var disks = await ListDisksAsync(machine.Id, request.ExcludedDisks, cancellationToken);
        if ((await ListViewsAsync(machine.Id, cancellationToken)).Count > 0)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The machine {machine.Name} still carries an earlier capture; settle it first.");
        }
        if (disks.All(disk => disk.SkipReason is not null))
        {
            throw new FaultException(FaultReason.Unsupported, $"The machine {machine.Name} has no disk that can be captured.");
        }
        try
        {
            return await CutAsync(request, machine, disks, cancellationToken);
        }
        catch
        {
            await UndoAsync(machine.Id, request.Point);
            throw;
        }
    }

    public ValueTask<IReadOnlyList<RestoreFinding>> CheckRestoreAsync(RestoreRequest request, CancellationToken cancellationToken) =>
        DatastoreRestore.CheckAsync(link, datastore, request, diskFormat, cancellationToken);

    public ValueTask<IRestore> BeginRestoreAsync(RestoreRequest request, CancellationToken cancellationToken) =>
        DatastoreRestore.BeginAsync(link, datastore, request, diskFormat, cancellationToken);

    /// <summary>All disks, those that are left out with the reason.</summary>
    protected abstract ValueTask<List<DiskSummary>> ListDisksAsync(Id16 machine, IReadOnlySet<string> excluded, CancellationToken cancellationToken);

    /// <summary>Which tokens tell changes now, by disk.</summary>
    protected abstract ValueTask<Func<Id16, string, bool>> FindTokensAsync(Id16 machine, CancellationToken cancellationToken);

    /// <summary>Views of ours that the machine carries.</summary>
    protected abstract ValueTask<IReadOnlyList<(string Id, Id16 Point)>> ListViewsAsync(Id16 machine, CancellationToken cancellationToken);

    protected abstract ValueTask RemoveViewAsync(Id16 machine, string id, CancellationToken cancellationToken);

    protected abstract ValueTask<ICapture> CutAsync(CaptureRequest request, PlatformMachine machine, IReadOnlyList<DiskSummary> disks, CancellationToken cancellationToken);

    /// <summary>A call that takes something away. An answer that was lost, or another hand: what is gone need not go.</summary>
    protected async ValueTask UnlessGoneAsync(string operation, Action work, CancellationToken cancellationToken)
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

    protected DiskSummary Describe(Id16 machine, string place, string name, long lengthBytes, string? leftOut, IReadOnlySet<string> excluded)
    {
        ArgumentNullException.ThrowIfNull(excluded);
        return new DiskSummary(PlatformNames.DiskId(machine, place), name, lengthBytes, diskFormat, leftOut ?? (excluded.Contains(name) ? "it is excluded" : null));
    }

    internal MachineConfiguration Describe(PlatformMachine machine, IEnumerable<DiskSummary> disks) => new(
        machine.Name, JsonSerializer.SerializeToElement(new { name = machine.Name, disks = disks.Select(disk => new { id = disk.Id.ToString(), bytes = disk.LengthBytes }) }), nativeKind, default);

    protected PlatformMachine Find(Id16 id) => machines.FirstOrDefault(machine => machine.Id == id)
        ?? throw new FaultException(FaultReason.NotFound, $"No machine {id} is configured.");

    private async Task UndoAsync(Id16 machine, Id16 point)
    {
        try
        {
            foreach (var (id, _) in (await ListViewsAsync(machine, CancellationToken.None)).Where(view => view.Point == point))
            {
                await RemoveViewAsync(machine, id, CancellationToken.None);
            }
        }
        catch (FaultException)
        {
            // The first failure tells more; what is left, the next settlement removes.
        }
    }
}
