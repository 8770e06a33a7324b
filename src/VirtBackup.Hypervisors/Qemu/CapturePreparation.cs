using System.Text.Json;
using VirtBackup.Core;
using VirtBackup.Hypervisors.State;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>Decides what a capture does, refuses what would not be safe, and begins it. Leaves nothing behind on failure.</summary>
internal sealed class CapturePreparation(QemuDriverContext context, QmpClient qmp, QemuMachine machine, CaptureRequest request)
{
    // Migration and its aftermath hold the images in other ways; a capture then would fail half-way.
    private static readonly HashSet<string> Unfit = ["inmigrate", "postmigrate", "finish-migrate", "save-vm", "restore-vm", "colo"];

    public static async Task<CapturePlan> PlanAsync(QmpClient qmp, CaptureRequest request, QemuOptions options, CancellationToken cancellationToken)
    {
        var plans = new List<DiskPlan>();
        long fleece = 0;
        foreach (var disk in await BlockInventory.ReadAsync(qmp, request.Machine, request.ExcludedDisks, cancellationToken))
        {
            var (bitmap, reason) = BitmapSettlement.ChooseBase(disk, request.Base);
            var read = !disk.Captured ? 0 : Math.Min(disk.Summary.LengthBytes, bitmap?.Count ?? disk.Summary.LengthBytes);
            fleece += !disk.Captured ? 0 : options.FleeceListedExtentsOnly ? read : disk.Summary.LengthBytes;
            plans.Add(new DiskPlan(disk.Summary, disk.Captured && bitmap is not null, read,
                disk.Summary.SkipReason is { } skip ? $"not captured: {skip}" : disk.Refusal ?? reason));
        }
        fleece += request.WithState == StateCapture.None ? 0 : await StateSave.MeasureAsync(qmp, cancellationToken);
        return new CapturePlan(plans, fleece, FreeSpace.Of(options.FleeceFolder));
    }

    public async Task<ICapture> BeginAsync(CancellationToken cancellationToken)
    {
        var running = await RequireFitAsync(cancellationToken);
        var all = await BlockInventory.ReadAsync(qmp, request.Machine, request.ExcludedDisks, cancellationToken);
        var disks = all.Where(disk => disk.Captured).ToList();
        RequireCapturable(all, disks);
        var configuration = await MachineDescriber.DescribeAsync(qmp, machine, all, context.Options.StateFolder, cancellationToken);
        var choices = disks.Select(disk => BitmapSettlement.ChooseBase(disk, request.Base)).ToList();
        var bases = choices.Select(choice => choice.Bitmap).ToList();
        RequireSpace();
        RequireWhole(all, running);
        LastSeen.Write(context.Options.StateFolder, request.Machine, configuration.Native.Span);

        var folder = await CaptureFolder.CreateAsync(context.Options, request.Machine, request.Point,
            [.. disks.Select(disk => disk.Summary.LengthBytes)], qmp.ReadPeer(), context.Processes, cancellationToken);
        var opened = new List<ExportedDisk>();
        using var state = request.WithState == StateCapture.None ? null : new StateSave(qmp, machine, context, folder, request.WithState);
        SpooledState? spool = null;
        try
        {
            await (state?.PrepareAsync(cancellationToken) ?? Task.CompletedTask);
            IReadOnlyList<MachineContent> contents = [];
            var native = ArgvDocument.Read(configuration.Native.Span);
            var tpm = TpmDevice.MemoryOf(request.Machine, native, request.Log);
            var cut = new CaptureCut(qmp, machine, request, context.Options, context.Time, context.Entropy, folder)
            {
                AtTheCut = tpm is not null || all.Any(disk => disk.IsNvram)
                    ? async () => contents = [.. await FirmwareFlash.ReadAsync(all, native.WorkingDirectory), .. tpm?.Read() ?? []] : null,
                State = state,
            };
            await cut.PrepareAsync(disks, cancellationToken);
            var limits = await cut.PrepareLimitsAsync(disks, bases, cancellationToken);
            var copied = cut.CopiesListedOnly ? bases : [.. bases.Select(_ => (TrackingBitmap?)null)];
            await cut.PrepareFiltersAsync(disks, copied, cancellationToken);
            var outcome = await cut.CutAsync(disks, copied, limits, running, cancellationToken);
            spool = state is null ? null : await state.FinishAsync(cancellationToken);
            await cut.ExportAsync(disks, bases, cancellationToken);
            var troubles = new ExportTroubles(cut.SocketPath,
                ": the fleece folder is full or too slow to keep what the guest overwrites. The guest is unharmed; free space in the fleece folder and run again.",
                "the machine stopped or was killed");
            for (var i = 0; i < disks.Count; i++)
            {
                opened.Add(await ExportedDisk.OpenAsync(CaptureNames.Export(request.Point, i), disks[i].Summary, bases[i]?.Name.ToString(), choices[i].Reason,
                    TrackingName.For(request.Point, disks[i].Summary).ToString(), ReachOf(copied[i], limits[i]), context.Options.RequestsInFlight, troubles, context.Time, cancellationToken));
            }
            return new QemuCapture(context, machine, request.Point, configuration, outcome, opened,
                [.. all.Where(disk => !disk.Captured).Select(disk => disk.Summary), .. tpm?.ListSkipped() ?? []])
            {
                Contents = contents,
                Spool = spool,
            };
        }
        catch
        {
            spool?.Dispose();
            await UndoAsync(opened, folder);
            throw;
        }
    }

    private static ReadReach ReachOf(TrackingBitmap? copied, CopyLimit? limit) =>
        copied is null ? ReadReach.Everything : limit is null ? ReadReach.ListedExtents : ReadReach.AskedRanges;

    private async Task UndoAsync(List<ExportedDisk> opened, string folder)
    {
        foreach (var disk in opened)
        {
            await disk.DisposeAsync();
        }
        try
        {
            await context.SettleAsync(qmp, machine, point => point != request.Point, CancellationToken.None);
            CaptureFolder.Delete(folder);
        }
        catch (Exception failure) when (failure is FaultException or IOException or UnauthorizedAccessException)
        {
            // The first failure tells more; what is left, the next settlement removes.
        }
    }

    private async Task<bool> RequireFitAsync(CancellationToken cancellationToken)
    {
        var status = (await qmp.ExecuteAsync("query-status", null, cancellationToken)).Text("status");
        if (Unfit.Contains(status))
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The machine {machine.Name} cannot be captured while it is in the state '{status}'.");
        }
        if (!await HasSafeFilterAsync(cancellationToken))
        {
            throw new FaultException(FaultReason.Unsupported,
                $"The QEMU of {machine.Name} cannot capture without endangering the guest's writes: it lacks 'copy-before-write' with 'on-cbw-error' (QEMU 7.1 has it).");
        }
        return status == "running";
    }

    private async Task<bool> HasSafeFilterAsync(CancellationToken cancellationToken)
    {
        var schema = await qmp.ExecuteAsync("query-qmp-schema", null, cancellationToken);
        return schema.Items().Any(entry => entry.FindText("meta-type") == "object" && HasMember(entry, "on-cbw-error") && HasMember(entry, "cbw-timeout"));
    }

    private static bool HasMember(JsonElement type, string name) => type.Items("members").Any(member => member.FindText("name") == name);

    private void RequireCapturable(IReadOnlyList<QemuDisk> all, List<QemuDisk> disks)
    {
        if (disks.Select(disk => disk.Refusal).FirstOrDefault(refusal => refusal is not null) is { } refusal)
        {
            throw new FaultException(FaultReason.Unsupported, $"The machine {machine.Name} cannot be captured. {refusal}");
        }
        if (disks.Count == 0)
        {
            throw new FaultException(FaultReason.Unsupported, $"The machine {machine.Name} has no disk that can be captured.");
        }
        if (all.Any(disk => disk.Filter is not null || disk.Bitmaps.Count(bitmap => BitmapSettlement.IsUsable(disk, bitmap)) > 1))
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The machine {machine.Name} still carries an earlier capture; settle it first.");
        }
        foreach (var disk in disks.Where(disk => Path.IsPathFullyQualified(disk.File)))
        {
            Images.InPlaceMark.RequireNone(disk.File, context.Options.StateFolder);
        }
        if (disks.FirstOrDefault(disk => disk.Bitmaps.Any(bitmap => bitmap.Name.Point == request.Point)) is { } taken)
        {
            throw new FaultException(FaultReason.AlreadyExists, $"Disk {taken.Summary.Name} already tracks changes since the point {request.Point}.");
        }
    }

    // A machine that goes on finds its disks as it knows them, or finds them broken.
    private void RequireWhole(IReadOnlyList<QemuDisk> all, bool running)
    {
        if (request.WithState == StateCapture.None)
        {
            return;
        }
        if (!running)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The machine {machine.Name} stands still: there is no running state to capture. Let it go on, or back up without.");
        }
        if (all.FirstOrDefault(disk => disk is { Captured: false, IsNvram: false } && (request.ExcludedDisks.Contains(disk.Summary.Name) || disk.DeviceType is "scsi-block" or "scsi-generic"
            || disk.Summary.SkipReason == FirmwareFlash.NotStoredReason)) is { } absent)
        {
            throw new FaultException(FaultReason.Unsupported,
                $"The running state of {machine.Name} cannot be captured without its disk {absent.Summary.Name} ({absent.Summary.SkipReason}): it would not find it as it was. Back up the disk, too, or back up without the running state.");
        }
    }

    private void RequireSpace()
    {
        var options = context.Options;
        try
        {
            Directory.CreateDirectory(options.FleeceFolder);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The fleece folder {options.FleeceFolder} cannot be made: {failure.Message}", failure);
        }
        var free = FreeSpace.Of(options.FleeceFolder);
        if (free < options.FleeceFreeBytesMin)
        {
            throw new FaultException(FaultReason.DeviceFull,
                $"The fleece folder {options.FleeceFolder} has {free >> 20} MiB free; a capture needs at least {options.FleeceFreeBytesMin >> 20} MiB. Free space or name another folder.");
        }
    }
}
