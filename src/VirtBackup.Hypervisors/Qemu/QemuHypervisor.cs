using VirtBackup.Core;
using VirtBackup.Hypervisors.State;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Hypervisors.Moving;
using VirtBackup.Hypervisors.Qemu.Comparing;
using VirtBackup.Hypervisors.Qemu.Moving;
using VirtBackup.Hypervisors.Targets;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>
/// QEMU machines that run as plain processes, reached over QMP. Needs QEMU 7.1 or later: the <c>copy-before-write</c>
/// filter with <c>on-cbw-error</c>. See README.md beside this file for the method and its limits.
/// </summary>
public sealed class QemuHypervisor : IHypervisor, IStorageMover
{
    private static readonly HashSet<string> NoneExcluded = [];
    private readonly MachineRoster roster;
    private readonly QemuDriverContext context;
    private readonly ProgramSurvey programs;

    public QemuHypervisor(IReadOnlyList<QemuMachine> machines, QemuOptions options, TimeProvider time, IEntropy entropy)
    {
        ArgumentNullException.ThrowIfNull(machines);
        ArgumentNullException.ThrowIfNull(options);
        if (!Path.IsPathFullyQualified(options.FleeceFolder))
        {
            throw new FaultException(FaultReason.InvalidArgument, $"The fleece folder '{options.FleeceFolder}' must be an absolute path.");
        }
        if (machines.GroupBy(machine => machine.Uuid).FirstOrDefault(group => group.Count() > 1) is { } twice)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"Two machines are configured with the UUID {twice.Key.ToUuidString()}.");
        }
        context = new QemuDriverContext(options, time, entropy, new ProcessRunner(time));
        programs = new ProgramSurvey(context.Processes);
        roster = new MachineRoster(machines, context.Moving);
        Control = new QemuMachineControl(context, roster, context.Moving);
    }

    public IMachineControl Control { get; }

    public string Kind => "qemu";

    public bool HoldsAtGate => true;

    public RestoreAbilities RestoreAbilities =>
        RestoreAbilities.Replace | RestoreAbilities.InPlace | RestoreAbilities.DisksOnly | RestoreAbilities.BusMapping | RestoreAbilities.NetworkMapping
        | RestoreAbilities.State | RestoreAbilities.Adopt;

    // Together: a monitor that is busy or hangs must not hold up the others.
    public async ValueTask<IReadOnlyList<MachineSummary>> ListMachinesAsync(CancellationToken cancellationToken) =>
        await Task.WhenAll(roster.List().Select(machine => SummariseAsync(machine, cancellationToken)));

    private async Task<MachineSummary> SummariseAsync(QemuMachine machine, CancellationToken cancellationToken)
    {
        try
        {
            await using var qmp = await context.OpenAsync(machine, cancellationToken);
            var disks = await BlockInventory.ReadAsync(qmp, machine.Uuid, NoneExcluded, cancellationToken);
            return new MachineSummary(machine.Uuid, machine.Name, Running: true, [.. disks.Select(disk => disk.Summary)],
                disks.Select(disk => disk.Refusal).FirstOrDefault(refusal => refusal is not null));
        }
        catch (FaultException fault)
        {
            return new MachineSummary(machine.Uuid, machine.Name, Running: false, [], fault.Message);
        }
    }

    public async ValueTask<IReadOnlyList<Id16>> ListTrackedPointsAsync(Id16 machine, CancellationToken cancellationToken)
    {
        var target = Find(machine);
        await using var qmp = await context.OpenAsync(target, cancellationToken);
        var disks = await BlockInventory.ReadAsync(qmp, machine, NoneExcluded, cancellationToken);
        return [.. disks.SelectMany(disk => disk.Bitmaps.Where(bitmap => BitmapSettlement.IsUsable(disk, bitmap))).Select(bitmap => bitmap.Name.Point).Distinct()];
    }

    public async ValueTask<Id16?> SettleAsync(Id16 machine, IReadOnlySet<Id16> committed, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(committed);
        var target = Find(machine);
        await new MoveRecovery(context, target).EndAsync(cancellationToken);
        await using var qmp = await context.OpenAsync(target, cancellationToken);
        return await context.SettleAsync(qmp, target, committed.Contains, cancellationToken);
    }

    public async ValueTask ReleaseGuestsAsync(CancellationToken cancellationToken)
    {
        Images.OrphanedServers.End(context.Options.QemuNbd);
        foreach (var machine in roster.List())
        {
            await TryEndMoveAsync(machine, cancellationToken);
            await ExistingMachine.RecoverAsync(context, machine, cancellationToken);
            if (CaptureRemoval.FindFolders(context.Options.FleeceFolder, machine.Uuid).Count == 0)
            {
                continue;
            }
            try
            {
                await using var qmp = await context.OpenAsync(machine, cancellationToken);
                await context.ReleaseGuestAsync(qmp, machine, cancellationToken);
            }
            catch (FaultException)
            {
                // The machine is gone, or its monitor is in use: the next run settles it.
            }
        }
    }

    public async ValueTask<CapturePlan> PlanCaptureAsync(CaptureRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var target = Find(request.Machine);
        await using var qmp = await context.OpenAsync(target, cancellationToken);
        return await CapturePreparation.PlanAsync(qmp, request, context.Options, cancellationToken);
    }

    public async ValueTask<ICapture> BeginCaptureAsync(CaptureRequest request, CancellationToken cancellationToken)
    {
        if (request.ChangedExtents.Count > 0)
        {
            throw new FaultException(FaultReason.InvalidArgument, "Changed extents cannot be given for a running QEMU machine: it tracks its changes itself. Run the backup without them.");
        }
        ArgumentNullException.ThrowIfNull(request);
        var target = Find(request.Machine);
        await using var qmp = await context.OpenAsync(target, cancellationToken);
        return await new CapturePreparation(context, qmp, target, request).BeginAsync(cancellationToken);
    }

    public async ValueTask<IGuestWriteMeter?> OpenWriteMeterAsync(Id16 machine, CancellationToken cancellationToken) =>
        await QemuWriteMeter.OpenAsync(context, Find(machine), cancellationToken);

    public async ValueTask<IReadOnlyList<RestoreFinding>> CheckRestoreAsync(RestoreRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (request is { DisksOnly: true, Placement: RestorePlacement.NewFolder })
        {
            return Images.ImageRestore.Check(request);
        }
        return (await new RestorePlanner(context, roster.List(), programs).PlanAsync(request, cancellationToken)).Findings;
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
        if (request is { DisksOnly: true, Placement: RestorePlacement.NewFolder })
        {
            return await Images.ImageRestore.BeginAsync(request, context.ImageTools, cancellationToken);
        }
        if (request.Placement != RestorePlacement.NewFolder)
        {
            if (roster.Find(request.Machine) is { } moved)
            {
                await new MoveRecovery(context, moved).EndAsync(cancellationToken);
            }
            ExistingMachine.Recover(request);
        }
        var plan = await new RestorePlanner(context, roster.List(), programs).PlanAsync(request, cancellationToken);
        if (plan.Refused)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The machine {request.Name} cannot be restored here: "
                + FindingMessages.OfObstacles(plan.Findings));
        }
        var state = request.State is null ? null : new StateFiles(context.ImageTools, request, Path.GetDirectoryName(LaunchFiles.For(request, plan.Images).Script)!);
        plan = plan with { State = state };
        var restore = request.Placement == RestorePlacement.NewFolder
            ? await QemuRestore.BeginAsync(context, request, plan, cancellationToken)
            : await new ExistingMachine(context, request).BeginAsync(plan, cancellationToken);
        return await ResumingRestore.AddAsync(restore, state, cancellationToken);
    }

    public async ValueTask<StorageMovePlan> CheckMoveAsync(StorageMoveRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        return (await new QemuMovePlanner(context, Find(request.Machine)).PlanAsync(request, cancellationToken)).Plan;
    }

    public ValueTask<MoveSample> SampleMoveAsync(StorageMovePlan plan, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(plan);
        return MovePathSample.MeasureAsync(plan.Disks, context.Time, cancellationToken);
    }

    public async ValueTask<StorageMoveOutcome> MoveAsync(StorageMoveRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        return await new QemuMover(context, Find(request.Machine), request).MoveAsync(cancellationToken);
    }

    private async Task TryEndMoveAsync(QemuMachine machine, CancellationToken cancellationToken)
    {
        try
        {
            await new MoveRecovery(context, machine).EndAsync(cancellationToken);
        }
        catch (FaultException)
        {
            // Its monitor is in use, or it cannot be tidied up: whoever uses the machine next is told.
        }
    }

    private QemuMachine Find(Id16 id) =>
        roster.Find(id)
        ?? throw new FaultException(FaultReason.NotFound, $"No machine with the UUID {id.ToUuidString()} is configured on this host.");
}
