using System.Collections.Concurrent;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Libvirt.Moving;
using VirtBackup.Hypervisors.Moving;
using VirtBackup.Hypervisors.State;
using VirtBackup.Hypervisors.Targets;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>
/// QEMU machines that libvirt manages, reached through its C library, running or off. Needs libvirt 7.2 or later. See README.md beside this
/// file for the method and its limits.
/// </summary>
public sealed class LibvirtHypervisor : IHypervisor, IStorageMover, IAsyncDisposable
{
    private readonly LibvirtContext context;
    private readonly IReadOnlyList<LibvirtConnection> connections;
    private readonly ConcurrentDictionary<string, IReadOnlyList<MachineSummary>> known = new(StringComparer.Ordinal);

    public LibvirtHypervisor(LibvirtOptions options, TimeProvider time, IEntropy entropy, IBlockingCalls blocking)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (!Path.IsPathFullyQualified(options.FleeceFolder))
        {
            throw new FaultException(FaultReason.InvalidArgument, $"The fleece folder '{options.FleeceFolder}' must be an absolute path.");
        }
        if (options.Uris.Count == 0)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"No connection to libvirt is named; {LibvirtOptions.SystemUri} is the usual one.");
        }
        if (options.Uris.Select(LibvirtUri.ProblemOf).FirstOrDefault(problem => problem is not null) is { } problem)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"The libvirt connection {problem}.");
        }
        context = new LibvirtContext(options, time, entropy, new ProcessRunner(time));
        connections = [.. options.Uris.Distinct(StringComparer.Ordinal).Select(uri => new LibvirtConnection(uri, options, time, blocking))];
    }

    public string Kind => "libvirt";

    public IMachineControl? Control => context.Options.StateFolder is null ? null : new LibvirtMachineControl(context, TryFindAsync, connections);

    public bool HoldsAtGate => true;

    public RestoreAbilities RestoreAbilities =>
        RestoreAbilities.Replace | RestoreAbilities.InPlace | RestoreAbilities.DisksOnly | RestoreAbilities.BusMapping | RestoreAbilities.NetworkMapping | RestoreAbilities.State
        | (context.Options.StateFolder is null ? RestoreAbilities.None : RestoreAbilities.Adopt);

    public async ValueTask<IReadOnlyList<MachineSummary>> ListMachinesAsync(CancellationToken cancellationToken)
    {
        var lists = await Task.WhenAll(connections.Select(connection => ListAsync(connection, cancellationToken)));
        var machines = new List<MachineSummary>();
        foreach (var machine in lists.SelectMany(list => list))
        {
            if (machines.FindIndex(listed => listed.Id == machine.Id) is var twin and >= 0)
            {
                machines[twin] = machines[twin] with { Problem = $"Two connections have a machine with the UUID {machine.Id.ToUuidString()}. Leave one of them out." };
                continue;
            }
            machines.Add(machine);
        }
        return machines;
    }

    public async ValueTask<IReadOnlyList<Id16>> ListTrackedPointsAsync(Id16 machine, CancellationToken cancellationToken)
    {
        var connection = await FindAsync(machine, cancellationToken);
        var (_, checkpoints) = await LibvirtContext.ReadAsync(connection, machine, NoneExcluded, cancellationToken);
        return [.. checkpoints.Select(checkpoint => checkpoint.Point)];
    }

    public async ValueTask<Id16?> SettleAsync(Id16 machine, IReadOnlySet<Id16> committed, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(committed);
        var connection = await FindAsync(machine, cancellationToken);
        await context.ReleaseAsync(connection, machine, cancellationToken);
        await new LibvirtMoveRecovery(context, connection, machine).EndAsync(static _ => { }, cancellationToken);
        return await context.SettleAsync(connection, machine, committed.Contains, cancellationToken);
    }

    public async ValueTask ReleaseGuestsAsync(CancellationToken cancellationToken)
    {
        OrphanedServers.End(context.Options.QemuNbd);
        foreach (var machine in ScratchFolder.FindMachines(context.Options.FleeceFolder))
        {
            try
            {
                // A job that nobody reads any more and nobody watches could fill the fleece folder: it ends, too.
                await context.ReleaseAsync(await FindAsync(machine, cancellationToken), machine, cancellationToken);
            }
            catch (FaultException)
            {
                // Not a machine of libvirt, or it cannot be reached: the next run settles it.
            }
        }
        foreach (var connection in connections)
        {
            await CleanUpReplacementsAsync(connection, cancellationToken);
        }
    }

    public async ValueTask<CapturePlan> PlanCaptureAsync(CaptureRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        return await new LibvirtPreparation(context, await FindAsync(request.Machine, cancellationToken), request).PlanAsync(cancellationToken);
    }

    public async ValueTask<ICapture> BeginCaptureAsync(CaptureRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (request.ChangedExtents.Count > 0)
        {
            throw new FaultException(FaultReason.InvalidArgument, "Changed extents cannot be given for a machine of libvirt: its changes are tracked already. Run the backup without them.");
        }
        var connection = await FindAsync(request.Machine, cancellationToken);
        await BrokenReplacement.SettleAsync(connection, request.Machine, [], cancellationToken);
        await HalfRestoredImages.RequireNoneAsync(connection, request, cancellationToken);
        return await new LibvirtPreparation(context, connection, request).BeginAsync(cancellationToken);
    }

    public async ValueTask<IGuestWriteMeter?> OpenWriteMeterAsync(Id16 machine, CancellationToken cancellationToken) =>
        await LibvirtWriteMeter.OpenAsync(context, await FindAsync(machine, cancellationToken), machine, cancellationToken);

    public async ValueTask<IReadOnlyList<RestoreFinding>> CheckRestoreAsync(RestoreRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        return IsImagesOnly(request) ? ImageRestore.Check(request) : (await PlanRestoreAsync(request, cancellationToken)).Findings;
    }

    public ValueTask<IRestoreTarget?> FindTargetAsync(RestoreRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        // Where existing disks are written, each lies where it is: no one path could be measured.
        return ValueTask.FromResult<IRestoreTarget?>(request.Placement == RestorePlacement.NewFolder ? new FolderTarget(TargetStorage.Of(request.Folder)) : null);
    }

    public async ValueTask<IRestore> BeginRestoreAsync(RestoreRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (IsImagesOnly(request))
        {
            return await ImageRestore.BeginAsync(request, context.ImageTools, cancellationToken);
        }
        if (request.Placement != RestorePlacement.NewFolder && await TryFindAsync(request.Machine, cancellationToken) is { } connection)
        {
            await new LibvirtMoveRecovery(context, connection, request.Machine).EndAsync(static _ => { }, cancellationToken);
            await BrokenReplacement.SettleAsync(connection, request.Machine, LibvirtRestorePlanner.ReadStored(request).Disks.Select(disk => disk.Path).OfType<string>(), cancellationToken);
        }
        var plan = await PlanRestoreAsync(request, cancellationToken);
        if (plan.Refused)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The machine {request.Name} cannot be restored here: "
                + FindingMessages.OfObstacles(plan.Findings));
        }
        var state = request.State is null ? null : new StateFiles(context.ImageTools, request, request.Folder.Length > 0 ? request.Folder : plan.Folders.First());
        plan = plan with { State = state };
        var restore = request.Placement == RestorePlacement.NewFolder
            ? await LibvirtRestore.BeginAsync(context, request, plan, cancellationToken)
            : await new ExistingDomainRestore(context, request, plan).BeginAsync(cancellationToken);
        return await ResumingRestore.AddAsync(restore, state, cancellationToken);
    }

    public async ValueTask<StorageMovePlan> CheckMoveAsync(StorageMoveRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        return await new LibvirtMovePlanner(context, await FindAsync(request.Machine, cancellationToken)).PlanAsync(request, cancellationToken);
    }

    public ValueTask<MoveSample> SampleMoveAsync(StorageMovePlan plan, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(plan);
        return MovePathSample.MeasureAsync(plan.Disks, context.Time, cancellationToken);
    }

    public async ValueTask<StorageMoveOutcome> MoveAsync(StorageMoveRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        return await new LibvirtMover(context, await FindAsync(request.Machine, cancellationToken), request).MoveAsync(cancellationToken);
    }

    private static bool IsImagesOnly(RestoreRequest request) => request is { DisksOnly: true, Placement: RestorePlacement.NewFolder };

    // Where the original is, if it is here; otherwise the connection that is named first.
    private async Task<LibvirtRestorePlan> PlanRestoreAsync(RestoreRequest request, CancellationToken cancellationToken)
    {
        LibvirtConnection? connection = null;
        try
        {
            connection = await TryFindAsync(request.Machine, cancellationToken);
        }
        catch (FaultException) when (request.Placement == RestorePlacement.NewFolder)
        {
            // A connection that the new machine may not need.
        }
        var existing = connection is not null && request.Placement != RestorePlacement.NewFolder ? await ExistingDomain.ReadAsync(connection, request.Machine, cancellationToken) : null;
        return await new LibvirtRestorePlanner(context, connection ?? connections[0], existing, request).PlanAsync(cancellationToken);
    }

    private async Task CleanUpReplacementsAsync(LibvirtConnection connection, CancellationToken cancellationToken)
    {
        try
        {
            foreach (var (uuid, name) in await connection.QueryAsync(Domains.List, cancellationToken))
            {
                if (context.Options.Serves(name))
                {
                    await TryCleanUpAsync(connection, uuid, cancellationToken);
                }
            }
        }
        catch (FaultException)
        {
            // Not reachable now; the next backup or restore of the machine settles it.
        }
    }

    private async Task TryCleanUpAsync(LibvirtConnection connection, Id16 machine, CancellationToken cancellationToken)
    {
        try
        {
            await new LibvirtMoveRecovery(context, connection, machine).EndAsync(context.Options.Report ?? (static _ => { }), cancellationToken);
            await BrokenReplacement.CleanUpAsync(connection, machine, cancellationToken);
        }
        catch (Exception failure) when (failure is FaultException { Reason: not FaultReason.HypervisorUnavailable } or IOException or UnauthorizedAccessException)
        {
            // Whoever uses the machine next is told, too.
            context.Options.Report?.Invoke($"What a killed run left of the machine {machine.ToUuidString()} cannot be tidied up now: {failure.Message}");
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var connection in connections)
        {
            await connection.DisposeAsync();
        }
    }

    private static readonly HashSet<string> NoneExcluded = [];

    private async Task<IReadOnlyList<MachineSummary>> ListAsync(LibvirtConnection connection, CancellationToken cancellationToken)
    {
        try
        {
            var machines = new List<MachineSummary>();
            foreach (var (uuid, name) in await connection.QueryAsync(Domains.List, cancellationToken))
            {
                if (context.Options.Serves(name) && await SummariseAsync(connection, uuid, name, cancellationToken) is { } machine)
                {
                    machines.Add(machine);
                }
            }
            return known[connection.Uri] = machines;
        }
        catch (FaultException fault)
        {
            return [.. known.GetValueOrDefault(connection.Uri, []).Select(machine => machine with { Running = false, Problem = fault.Message })];
        }
    }

    // One by one: a machine that libvirt is stuck with must not hide the others.
    private static async Task<MachineSummary?> SummariseAsync(LibvirtConnection connection, Id16 uuid, string name, CancellationToken cancellationToken)
    {
        try
        {
            var view = await connection.QueryAsync(libvirt => Domains.Read(libvirt, uuid), cancellationToken);
            return new MachineSummary(uuid, name, view.Active, view.Summaries, LibvirtPreparation.ProblemOf(view));
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.NotFound)
        {
            return null; // undefined, or a transient machine that ended
        }
        catch (FaultException fault)
        {
            return new MachineSummary(uuid, name, Running: false, [], fault.Message);
        }
    }

    private async Task<LibvirtConnection> FindAsync(Id16 machine, CancellationToken cancellationToken) => await TryFindAsync(machine, cancellationToken)
        ?? throw new FaultException(FaultReason.NotFound, $"libvirt on this host has no machine with the UUID {machine.ToUuidString()} that this agent serves.");

    private Task<LibvirtConnection?> TryFindAsync(Id16 machine, CancellationToken cancellationToken) => TryFindAsync(machine, anyName: false, cancellationToken);

    /// <summary>Null: no connection has the machine, and all could be asked.</summary>
    /// <param name="anyName">Also one that is not served by its name.</param>
    private async Task<LibvirtConnection?> TryFindAsync(Id16 machine, bool anyName, CancellationToken cancellationToken)
    {
        FaultException? unreachable = null;
        foreach (var connection in connections)
        {
            try
            {
                var name = await connection.QueryAsync(libvirt =>
                {
                    using var domain = Domains.TryFind(libvirt, machine);
                    return domain is null ? null : Domains.NameOf(domain);
                }, cancellationToken);
                if (name is not null && (anyName || context.Options.Serves(name)))
                {
                    return connection;
                }
            }
            catch (FaultException fault)
            {
                unreachable = fault;
            }
        }
        return unreachable is null ? null : throw unreachable;
    }
}
