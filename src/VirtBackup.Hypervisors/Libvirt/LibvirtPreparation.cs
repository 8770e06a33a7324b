using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Hypervisors.Libvirt.Native;
using VirtBackup.Hypervisors.Qemu;
using VirtBackup.Hypervisors.State;
using VirtBackup.Hypervisors.Tpm;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>Decides what a capture does, refuses what would not be safe, and begins it. Leaves nothing behind on failure.</summary>
internal sealed class LibvirtPreparation(LibvirtContext context, LibvirtConnection connection, CaptureRequest request)
{
    private const uint ReuseImages = 1;
    /// <summary>Suspend, save, restore, begin: each may take as long as a call of libvirt may.</summary>
    private const int SaveCallsMax = 5;
    // A guest agent that was killed begins again within a second; one that hangs does not.
    private static readonly TimeSpan ReturnMax = TimeSpan.FromSeconds(15), ReturnInterval = TimeSpan.FromSeconds(1);

    private ScratchWatch? watch;
    private DomainSave? save;
    private TpmMemory? tpm;
    private IReadOnlyList<MachineContent> tpmState = [];

    public async Task<CapturePlan> PlanAsync(CancellationToken cancellationToken)
    {
        var (view, checkpoints) = await LibvirtContext.ReadAsync(connection, request.Machine, request.ExcludedDisks, cancellationToken);
        if (!view.Active)
        {
            return await new OfflinePreparation(context, connection, request).PlanAsync(view, checkpoints, cancellationToken);
        }
        var basis = TrackingChoice.Basis(checkpoints, request.Base);
        var plans = new List<DiskPlan>();
        foreach (var disk in view.Disks)
        {
            var (changedOnly, reason) = Choose(view, basis, disk);
            var read = !disk.Captured ? 0 : changedOnly ? Math.Min(basis!.Tracked[disk.Target] ?? disk.LengthBytes, disk.LengthBytes) : Math.Max(disk.AllocatedBytes, 0);
            plans.Add(new DiskPlan(disk.Summary, disk.Captured && changedOnly, read, disk.Summary.SkipReason is { } skip ? $"not captured: {skip}" : RefusalOf(disk, active: true) ?? reason));
        }
        plans.AddRange(view.Summaries.Skip(view.Disks.Count).Select(disk => new DiskPlan(disk, false, 0, $"not captured: {disk.SkipReason}")));
        return new CapturePlan(plans, view.Disks.Where(disk => disk.Captured).Sum(disk => disk.LengthBytes), FreeSpace.Of(context.Options.FleeceFolder));
    }

    public async Task<ICapture> BeginAsync(CancellationToken cancellationToken)
    {
        var (view, checkpoints) = await LibvirtContext.ReadAsync(connection, request.Machine, request.ExcludedDisks, cancellationToken);
        RequireCapturable(view);
        if (checkpoints.Any(checkpoint => checkpoint.Point == request.Point))
        {
            throw new FaultException(FaultReason.AlreadyExists, $"The machine {view.Document.Name} already has a checkpoint of the point {request.Point}.");
        }
        if (!view.Active)
        {
            return await new OfflinePreparation(context, connection, request).BeginAsync(view, checkpoints, cancellationToken);
        }
        await context.JobsOf(connection).RequireIdleAsync(request.Machine, cancellationToken);
        RequireSpace();
        using var room = new DomainStateAdmission(context, request).Require(view);
        tpm = await DomainTpm.FindMemoryAsync(context, connection, view, request, cancellationToken);
        var basis = TrackingChoice.Basis(checkpoints, request.Base);
        var captured = view.Disks.Where(disk => disk.Captured).ToList();
        var choices = captured.ToDictionary(disk => disk.Target, disk => Choose(view, basis, disk), StringComparer.Ordinal);
        var owner = await FindOwnerAsync(view.Document, cancellationToken);
        var folder = await ScratchFolder.CreateAsync(context.Options, request.Machine, request.Point, owner, context.Processes, cancellationToken);
        var opened = new List<ExportedDisk>();
        SpooledState? spool = null;
        try
        {
            await folder.MakeImagesAsync(context.Options, captured, owner, context.Processes, cancellationToken);
            var cut = request.WithState == StateCapture.None
                ? await CutAsync(view, captured, choices, folder, cancellationToken) : await CutWithStateAsync(view, captured, choices, folder, cancellationToken);
            spool = save is null ? null : SpooledState.Open(save.Image, StateNames.MemoryOf(request.Machine), StateNames.DevicesOf(request.Machine), SaveImage.FindStream(save.Image));
            // Not at the very instant of the disks; firmware keeps its variables so that they outlast a power cut at any moment.
            var contents = await FirmwareVariables.ReadAsync(connection, view.Document, request.Log, cancellationToken);
            var troubles = new ExportTroubles(folder.Socket, ". The guest is unharmed; run the backup again.", "the machine stopped, or somebody ended the backup job")
            {
                FindReason = () => watch!.Lost,
            };
            foreach (var disk in captured)
            {
                var (changedOnly, reason) = choices[disk.Target];
                var token = disk.KeepsBitmaps && view.Persistent ? CheckpointRecord.NameOf(request.Point) : "";
                opened.Add(await ExportedDisk.OpenAsync(disk.Target, disk.Summary, changedOnly ? BackupDocument.BitmapOf(disk.Target) : null, reason, token, ReadReach.Everything,
                    context.Options.RequestsInFlight, troubles, context.Time, cancellationToken));
            }
            return new LibvirtCapture(context, connection, request, opened, folder, watch!)
            {
                Configuration = LibvirtDescriber.Describe(view), Consistency = cut.Consistency, ConsistencyDetail = cut.Detail, Frozen = cut.Frozen,
                SkippedDisks = [.. view.Summaries.Where(disk => disk.SkipReason is not null), .. tpm?.ListSkipped() ?? []],
                Contents = [.. contents, .. tpmState],
                Spool = spool, Paused = cut.Paused,
            };
        }
        catch
        {
            spool?.Dispose();
            await UndoAsync(opened, folder);
            throw;
        }
    }

    private async Task<CutOutcome> CutAsync(
        DomainView view, IReadOnlyList<LibvirtDisk> captured, Dictionary<string, (bool ChangedOnly, string Reason)> choices, ScratchFolder folder, CancellationToken cancellationToken)
    {
        // All that can be done before is: the guest stands still for what libvirt needs, and nothing else.
        var job = WriteJob(view, captured, choices, folder);
        var cut = request.Gate is null ? new FrozenCut(connection, request.Machine, domain => Begin(domain, job)) : null;
        if (request.Gate is not null)
        {
            await request.Gate.ReadyAsync(cancellationToken);
        }
        // Disposed last, and without having been disarmed when the guest could not be let go on.
        // A cut at a gate pauses the guest, and marks that it did, even if it stood still when it was looked at.
        await using var lease = (request.Gate is not null || (view.Running && request.Quiesce)) && context.Options.Guard is { } guard
            ? await guard.ArmAsync(LibvirtGuestRelease.TargetOf(connection, view, folder.Path), Quiesce.GuardLimit(request), cancellationToken) : null;
        await using var quiesce = await Quiesce.BeginAsync(
            request, view.Running, DomainAgent.Connector(connection, view, cut, context.Time), folder.Marks, lease, context.Time, cancellationToken);
        if (request.Gate is null && quiesce.IsInDoubt)
        {
            await AwaitThawAsync(folder.Marks, cancellationToken);
        }
        var held = false;
        try
        {
            if (request.Gate is { } gate)
            {
                held = await CutTogetherAsync(gate, job, view, captured, choices, folder, lease, cancellationToken);
            }
            else
            {
                await CutDisksAsync(cut, job, view, captured, choices, folder);
            }
        }
        finally
        {
            await quiesce.ThawAsync();
        }
        if (lease is not null && !folder.Marks.Any && !await lease.DisarmAsync())
        {
            quiesce.DenyHeld();
            held = false;
        }
        request.Gate?.Released(held);
        if (quiesce.IsStillFrozen)
        {
            // Beside whoever watches the guest: nobody may do.
            await new DomainAgent(connection, request.Machine, context.Time).AskToThawAsync(CancellationToken.None);
        }
        return new CutOutcome(quiesce.Consistency, quiesce.Detail, quiesce.Frozen);
    }

    /// <summary>
    /// libvirt 9.0 does not hear of an agent that goes or comes while it begins a backup job, and then takes the one that went for the
    /// guest's until another comes: nobody could thaw the guest. So what an agent left in doubt is settled before the job begins, if it comes back soon.
    /// </summary>
    private async Task AwaitThawAsync(FreezeMarks marks, CancellationToken cancellationToken)
    {
        var begun = context.Time.GetTimestamp();
        await using var agent = new DomainAgent(connection, request.Machine, context.Time);
        while (marks.Has(FreezeMarks.Frozen) && context.Time.GetElapsedTime(begun) < ReturnMax)
        {
            try
            {
                await agent.ThawAsync(ReturnInterval, cancellationToken);
                marks.Remove(FreezeMarks.Frozen);
            }
            catch (FaultException)
            {
                await Task.Delay(ReturnInterval, context.Time, cancellationToken);
            }
        }
    }

    /// <returns>Whether the guest stood still all the time.</returns>
    private async Task<bool> CutTogetherAsync(
        ICutGate gate, (string Backup, string? Checkpoint) job, DomainView view, IReadOnlyList<LibvirtDisk> captured,
        Dictionary<string, (bool ChangedOnly, string Reason)> choices, ScratchFolder folder, IFreezeLease? lease, CancellationToken cancellationToken)
    {
        using var hold = new GatedHold(gate, request, context.Time);
        var done = false;
        try
        {
            await HeldDomain.SuspendAsync(connection, request.Machine, folder.Marks);
            await hold.FreezeAsync(cancellationToken);
            await CutDisksAsync(null, job, view, captured, choices, folder);
            await hold.CutAsync(cancellationToken);
            var held = await HeldDomain.StandsAsync(connection, request.Machine);
            done = true;
            return held;
        }
        finally
        {
            if (!done && lease is not null)
            {
                await lease.RenewAsync(request.FreezeLimit, CancellationToken.None);
            }
            await HeldDomain.ResumeAsync(connection, request.Machine, folder.Marks, CancellationToken.None);
        }
    }

    /// <summary>The guest stands still from before its memory is saved until its disks are cut; nothing in it is flushed, since nothing is lost.</summary>
    private async Task<CutOutcome> CutWithStateAsync(
        DomainView view, IReadOnlyList<LibvirtDisk> captured, Dictionary<string, (bool ChangedOnly, string Reason)> choices, ScratchFolder folder, CancellationToken cancellationToken)
    {
        var job = WriteJob(view, captured, choices, folder);
        if (request.Gate is not null)
        {
            await request.Gate.ReadyAsync(cancellationToken);
            await GatedHold.PrepareAsync(request.Gate, context.Time, cancellationToken);
        }
        await using var lease = context.Options.Guard is { } guard
            ? await guard.ArmAsync(LibvirtGuestRelease.TargetOf(connection, view, folder.Path), SaveCallsMax * context.Options.WorkTimeout, cancellationToken) : null;
        using var hold = request.Gate is null ? null : new GatedHold(request.Gate, request, context.Time);
        save = new DomainSave(connection, request.Machine, folder.Path, context.Time);
        try
        {
            await save.SuspendAsync();
            await (hold?.FreezeAsync(cancellationToken) ?? Task.CompletedTask);
            await save.RunAsync();
            await CutDisksAsync(null, job, view, captured, choices, folder);
            await (hold?.CutAsync(cancellationToken) ?? Task.CompletedTask);
        }
        finally
        {
            await save.ContinueAsync();
        }
        var held = lease is null || await lease.DisarmAsync();
        request.Gate?.Released(held);
        return held ? new CutOutcome(CaptureConsistency.Crash, save.Detail, null, save.StoodStill) : throw new FaultException(FaultReason.FailedPrecondition,
            $"The thaw watchdog let {view.Document.Name} go on during the cut, so that its memory and its disks are not of one instant. Run the backup again.");
    }

    private async Task CutDisksAsync(
        FrozenCut? cut, (string Backup, string? Checkpoint) job, DomainView view, IReadOnlyList<LibvirtDisk> captured,
        Dictionary<string, (bool ChangedOnly, string Reason)> choices, ScratchFolder folder)
    {
        try
        {
            await (cut is { IsUnderWay: true } ? connection.AwaitChangeAsync(cut.Made, CancellationToken.None) : StartJobAsync(job));
        }
        catch (FaultException fault) when (fault.InnerException is LibvirtFailure { Code: LibvirtFailure.CheckpointInconsistent })
        {
            // A bitmap broke between the look at it and now. Reading everything is always right.
            foreach (var target in choices.Where(choice => choice.Value.ChangedOnly).Select(choice => choice.Key).ToList())
            {
                choices[target] = (false, $"read in full: its change tracking cannot be used ({fault.InnerException.Message})");
            }
            await StartJobAsync(WriteJob(view, captured, choices, folder));
        }
        tpmState = [.. tpm?.Read() ?? []];
        // Before the hook behind the thaw, which may take its time: the guest writes from here on.
        watch = ScratchWatch.Start(folder.Path, context.Options, context.Time, () => context.JobsOf(connection).EndOursAsync(request.Machine, CancellationToken.None));
    }

    private (string Backup, string? Checkpoint) WriteJob(
        DomainView view, IReadOnlyList<LibvirtDisk> captured, Dictionary<string, (bool ChangedOnly, string Reason)> choices, ScratchFolder folder)
    {
        var backup = BackupDocument.Write(view.Disks, choices.ToDictionary(choice => choice.Key, choice => choice.Value.ChangedOnly, StringComparer.Ordinal),
            request.Base, folder.Socket, folder.ScratchOf);
        var tracked = captured.Where(disk => disk.KeepsBitmaps && view.Persistent)
            .Select(disk => new CheckpointedDisk(disk.Target, disk.LengthBytes, disk.Layers)).ToList();
        return (backup, tracked.Count > 0 ? CheckpointRecord.Write(request.Point, view.Document.Disks, tracked) : null);
    }

    // Not cancellable: a job that began unnoticed would outlive the run.
    private Task<bool> StartJobAsync((string Backup, string? Checkpoint) job) => connection.ChangeAsync(libvirt =>
    {
        using var domain = Domains.Find(libvirt, request.Machine);
        Begin(domain, job);
        return true;
    }, CancellationToken.None);

    private static void Begin(DomainHandle domain, (string Backup, string? Checkpoint) job) =>
        LibvirtValues.Require(LibvirtCalls.BeginBackup(domain, job.Backup, job.Checkpoint, ReuseImages));

    private async Task UndoAsync(List<ExportedDisk> opened, ScratchFolder folder)
    {
        if (watch is not null)
        {
            await watch.DisposeAsync();
        }
        foreach (var disk in opened)
        {
            await disk.DisposeAsync();
        }
        try
        {
            await context.JobsOf(connection).EndOursAsync(request.Machine, CancellationToken.None);
            await context.SettleAsync(connection, request.Machine, point => point != request.Point, CancellationToken.None);
        }
        catch (FaultException)
        {
            // The first failure tells more; what is left, the next settlement removes.
        }
        if (!folder.Marks.Any)
        {
            folder.TryDelete();
        }
    }

    private (bool ChangedOnly, string Reason) Choose(DomainView view, CheckpointRecord? basis, LibvirtDisk disk) => view.Persistent
        ? TrackingChoice.Choose(basis, request.Base, disk)
        : (false, "read in full: the machine is transient, and libvirt keeps its checkpoints only while it runs");

    /// <summary>Why the whole machine cannot be captured because of this disk, or null.</summary>
    internal static string? RefusalOf(LibvirtDisk disk, bool active) => !disk.Captured ? null
        : disk.Problem is not null ? disk.Problem
        : active && disk.Source.IoThread
        ? $"Disk {disk.Target} uses an I/O thread. With such a disk, a backup client that disconnects can end the whole machine (seen with QEMU 7.2); remove 'iothread' from its driver or controller."
        : null;

    /// <summary>Why the machine cannot be captured now, or null.</summary>
    public static string? ProblemOf(DomainView view) =>
        view.Disks.Select(disk => RefusalOf(disk, view.Active)).OfType<string>().FirstOrDefault() is { } refusal ? refusal
        : view.Disks.Any(disk => disk.Captured) ? null
        : view.Disks.Count == 0 ? "It has no disk."
        : $"It has no disk that can be captured: {string.Join("; ", view.Disks.Select(disk => $"{disk.Target}: {disk.Summary.SkipReason}"))}.";

    private static void RequireCapturable(DomainView view)
    {
        if (ProblemOf(view) is { } problem)
        {
            throw new FaultException(FaultReason.Unsupported, $"The machine {view.Document.Name} cannot be captured. {problem}");
        }
    }

    private void RequireSpace()
    {
        var options = context.Options;
        var free = FreeSpace.Of(options.FleeceFolder);
        if (free < options.FleeceFreeBytesMin)
        {
            throw new FaultException(FaultReason.DeviceFull,
                $"The fleece folder {options.FleeceFolder} has {free >> 20} MiB free; a capture needs at least {options.FleeceFreeBytesMin >> 20} MiB. Free space or name another folder.");
        }
    }

    // A session's QEMU runs as the owner of its socket; a system's XML names the user.
    private async Task<(int User, int Group)?> FindOwnerAsync(DomainDocument document, CancellationToken cancellationToken) =>
        document.FindOwner() ?? await LibvirtUri.FindSocketOwnerAsync(connection.Uri, context.Processes, cancellationToken);
}
