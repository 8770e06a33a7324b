using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Moving;
using VirtBackup.Hypervisors.Tpm;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>Restores in the place of a machine that is off: onto its disks, or with new disks instead of them.</summary>
internal sealed class ExistingMachine(QemuDriverContext context, RestoreRequest request)
{
    private readonly ImageInspector _inspector = new(context.Options.QemuImg, context.Processes);

    /// <summary>Undoes a replacement of the machine that broke off.</summary>
    public static void Recover(RestoreRequest request)
    {
        if (request.Configuration.NativeKind == ArgvDocument.Kind)
        {
            ReplacementJournal.Recover(ImagesOf(ArgvDocument.Read(request.Configuration.Native.Span)));
        }
    }

    /// <summary>The same when the agent starts, if the machine is off, and removes new images that were not complete. What cannot be undone is left to whoever uses it next.</summary>
    public static async Task RecoverAsync(QemuDriverContext context, QemuMachine machine, CancellationToken cancellationToken)
    {
        try
        {
            if (LastSeen.Read(context.Options.StateFolder, machine.Uuid) is { } seen && !await Moving.QemuMonitors.IsListeningAsync(machine, cancellationToken))
            {
                ReplacementJournal.CleanUp([.. ImagesOf(seen), .. seen.Tpm is { } tpm && Directory.Exists(tpm.StateFolder) ? TpmStateFolder.PathsIn(tpm.StateFolder) : []]);
            }
        }
        catch (Exception failure) when (failure is FaultException or IOException or UnauthorizedAccessException)
        {
            // Told by the next restore.
        }
    }

    private static IEnumerable<string> ImagesOf(ArgvDocument document) => document.Disks.Select(disk => Path.GetFullPath(disk.File, document.WorkingDirectory));

    public async Task CheckAsync(IReadOnlyList<ImageReplacement> images, List<RestoreFinding> findings, CancellationToken cancellationToken)
    {
        if (images.Count != request.Disks.Count)
        {
            return; // said already
        }
        if (request.Placement == RestorePlacement.Replace)
        {
            findings.AddRange(await ReplacingRestore.CheckAsync(request, PlacesOf(images), context.ImageTools, cancellationToken));
            return;
        }
        foreach (var (disk, place) in request.Disks.Zip(PlacesOf(images)))
        {
            findings.Add(await InPlaceRestore.CheckAsync(disk, place, context.ImageTools, cancellationToken)
                ?? new RestoreFinding("disk", FindingSeverity.Adapts, $"What differs is written into {place.Path}."));
        }
    }

    public async Task<IRestore> BeginAsync(RestorePlan plan, CancellationToken cancellationToken)
    {
        var places = PlacesOf(plan.Images);
        if (request.Placement == RestorePlacement.Replace)
        {
            return await ReplacingRestore.BeginAsync(request, places, context.ImageTools, (journal, token) => FinishAsync(plan, journal, token), cancellationToken, plan.Contents);
        }
        var existing = new List<ExistingPlace>();
        var untouched = Adoption.TakeStamps(context.Moving, request.Machine);
        foreach (var (disk, place) in request.Disks.Zip(places))
        {
            existing.Add(untouched.TryGetValue(place.Path, out var point) && !File.Exists(InPlaceMark.PathOf(place.Path, context.Options.StateFolder))
                ? new ExistingPlace(disk, place, null, point, "nothing has written to it since it was restored") : await FindTrackingAsync(disk, place, cancellationToken));
        }
        return await InPlaceRestore.BeginAsync(request, existing, context.ImageTools, token => FinishAsync(plan, null, token), cancellationToken, plan.Contents);
    }

    // At most one bitmap of a disk records, and it began at the point it is named after.
    private async Task<ExistingPlace> FindTrackingAsync(RestoreDisk disk, MachineImage place, CancellationToken cancellationToken)
    {
        var summary = new DiskSummary(disk.Id, disk.Name, disk.LengthBytes, place.Format, null);
        var ours = new List<(TrackingName Name, ImageBitmap Bitmap)>();
        foreach (var bitmap in await _inspector.ReadBitmapsAsync(place, cancellationToken))
        {
            if (TrackingName.TryParse(bitmap.Name, out var name))
            {
                ours.Add((name, bitmap));
            }
        }
        var usable = ours.FindAll(candidate => candidate.Bitmap is { Recording: true, Inconsistent: false } && candidate.Name.Fits(summary));
        return usable switch
        {
            [var (name, bitmap)] => new ExistingPlace(disk, place, bitmap.Name, name.Point, "its changes are tracked"),
            [] when ours.Exists(candidate => candidate.Bitmap.Inconsistent) => new ExistingPlace(disk, place, null, null, "its change tracking is inconsistent, since QEMU was not shut down cleanly"),
            [] when place.Format == "qcow2" => new ExistingPlace(disk, place, null, null, "it has no change tracking since an earlier recovery point"),
            [] => new ExistingPlace(disk, place, null, null, "an image of this format keeps no change tracking"),
            _ => new ExistingPlace(disk, place, null, null, "it has more than one change tracking"),
        };
    }

    private async Task<RestoredMachine> FinishAsync(RestorePlan plan, ReplacementJournal? journal, CancellationToken cancellationToken)
    {
        var launcher = new MachineLauncher(context, plan, request);
        if (!request.DisksOnly && (request.Start || request.Placement == RestorePlacement.Replace))
        {
            launcher.WriteRecord();
        }
        var starts = await MayStartAsync(plan, journal, cancellationToken);
        if (starts)
        {
            journal?.Settle();
        }
        if (!request.Start)
        {
            Adoption.Stamp(context.Moving, request, [.. plan.Images.Select(image => image.NewFile)]);
        }
        int? pid = starts ? await launcher.StartAsync(cancellationToken) : null;
        return await new RestoredDescription(context, plan, request).AddAsync(launcher.Describe(pid), launcher, cancellationToken);
    }

    // The wait may be long, and nothing keeps anybody from starting the machine meanwhile: its disks must not go back under it then.
    private async Task<bool> MayStartAsync(RestorePlan plan, ReplacementJournal? journal, CancellationToken cancellationToken)
    {
        bool starts;
        try
        {
            starts = await request.MayStartAsync(cancellationToken);
        }
        finally
        {
            if (request.StartGate is not null && journal is not null
                && await ImageLock.IsAnyHeldAsync(plan.Images.Select(image => image.NewFile), context.ImageTools, CancellationToken.None))
            {
                journal.Settle();
                journal.Leave();
            }
        }
        return journal is not { IsLeft: true } ? starts : throw new FaultException(FaultReason.FailedPrecondition,
            $"The machine {request.Name} was started by somebody else while its start waited. It runs on its restored disks; the old ones stay beside them.");
    }

    private static MachineImage[] PlacesOf(IReadOnlyList<ImageReplacement> images) => [.. images.Select(image => new MachineImage(image.DiskName, image.NewFile, image.Format))];
}
