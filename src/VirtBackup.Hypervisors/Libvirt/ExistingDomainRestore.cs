using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>Restores in the place of a machine that is off: onto its disks, or with new disks and a new definition instead of its own.</summary>
internal sealed class ExistingDomainRestore(LibvirtContext context, RestoreRequest request, LibvirtRestorePlan plan)
{
    private readonly DomainActivation activation = new(context, request, plan);

    private ExistingDomain Existing => plan.Existing!;

    /// <summary>What was written beside disks; of the TPM its folder, which may be new.</summary>
    private IEnumerable<string> SmallFiles => [.. plan.Variables is { } variables ? [variables.Path] : Array.Empty<string>(), .. plan.Tpm?.Place is { } place ? [place] : Array.Empty<string>()];

    public async Task<IRestore> BeginAsync(CancellationToken cancellationToken)
    {
        MachineImage[] places = [.. plan.Images.Select(image => new MachineImage(image.Target, image.Path, image.Format))];
        IReadOnlyList<ContentFile> contents =
            [.. plan.Variables is { } variables ? [new ContentFile(variables.Path, variables.Bytes, IsSecret: false)] : Array.Empty<ContentFile>(), .. plan.Tpm?.Files ?? []];
        if (request.Placement == RestorePlacement.Replace)
        {
            return await ReplacingRestore.BeginAsync(request, places, context.ImageTools, ReplaceAsync, cancellationToken,
                contents, Existing.View.Xml);
        }
        var inspector = new ImageInspector(context.Options.QemuImg, context.Processes);
        var existing = new List<ExistingPlace>();
        var untouched = Adoption.TakeStamps(context.Moving, request.Machine);
        foreach (var (disk, place) in request.Disks.Zip(places))
        {
            existing.Add(untouched.TryGetValue(place.Path, out var point) && !File.Exists(InPlaceMark.PathOf(place.Path))
                ? new ExistingPlace(disk, place, null, point, "nothing has written to it since it was restored") : await Existing.FindTrackingAsync(disk, place, inspector, cancellationToken));
        }
        return await InPlaceRestore.BeginAsync(request, existing, context.ImageTools, FinishInPlaceAsync, cancellationToken, contents);
    }

    // The new images have the names of the old ones, which get them back when this fails.
    private async Task<RestoredMachine> ReplaceAsync(ReplacementJournal journal, CancellationToken cancellationToken)
    {
        var starts = false;
        try
        {
            await activation.HandOverAsync([.. plan.Images.Select(image => image.Path), .. SmallFiles], cancellationToken);
            if (plan.Xml is { } xml)
            {
                await activation.DefineAsync(xml, cancellationToken);
            }
            if (await activation.IsActiveAsync())
            {
                throw new FaultException(FaultReason.FailedPrecondition, $"The machine {plan.Name} was started while it was to be replaced. Shut it down, and run the restore again.");
            }
            cancellationToken.ThrowIfCancellationRequested();
            starts = await MayStartAsync(journal, cancellationToken);
            if (starts)
            {
                journal.Settle();
                await StartAsync(journal);
            }
        }
        catch (Exception failure) when (!journal.IsLeft)
        {
            await DefineFormerAsync(journal, failure);
            throw;
        }
        await ForgetCheckpointsAsync();
        return await activation.FinishAsync(starts, cancellationToken);
    }

    // The wait may be long, and nothing keeps anybody from starting the machine meanwhile: its disks must not go back under it then.
    private async Task<bool> MayStartAsync(ReplacementJournal journal, CancellationToken cancellationToken)
    {
        bool starts;
        try
        {
            starts = await request.MayStartAsync(cancellationToken);
        }
        finally
        {
            if (request.StartGate is not null && await activation.IsActiveAsync())
            {
                journal.Settle();
                journal.Leave();
            }
        }
        return !journal.IsLeft ? starts : throw new FaultException(FaultReason.FailedPrecondition,
            $"The machine {plan.Name} was started by somebody else while its start waited. It runs on its restored disks; the old ones stay beside them.");
    }

    private async Task StartAsync(ReplacementJournal journal)
    {
        try
        {
            await activation.StartAsync();
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.HypervisorUnavailable)
        {
            // libvirt went away, or took too long: the machine may run, or be about to.
            journal.Leave();
            throw new FaultException(fault.Reason,
                $"{fault.Message} The machine {plan.Name} has its restored disks; whether it started is not known. Its old disks stay beside the new ones. See whether it runs, and start it if not.", fault);
        }
    }

    private async Task DefineFormerAsync(ReplacementJournal journal, Exception failure)
    {
        try
        {
            journal.Reopen();
            await activation.DefineAsync(Existing.View.Xml, CancellationToken.None);
        }
        catch (FaultException fault)
        {
            journal.Leave();
            throw new FaultException(fault.Reason,
                $"{failure.Message} The former definition of {plan.Name} could not be given back to libvirt: {fault.Message} Start the agent again when libvirt can be reached: it brings back disks and definition.", failure);
        }
    }

    /// <summary>The new images have none of the bitmaps. What cannot be forgotten now, the next backup finds without its bitmaps.</summary>
    private async Task ForgetCheckpointsAsync()
    {
        try
        {
            await plan.Connection.ChangeAsync(libvirt =>
            {
                using var domain = Domains.Find(libvirt, plan.Uuid);
                foreach (var checkpoint in Existing.Checkpoints.Where(checkpoint => checkpoint.Tracked.Keys.All(target => plan.Images.Any(image => image.Target == target))))
                {
                    Checkpoints.Forget(domain, checkpoint.Point);
                }
                return true;
            }, CancellationToken.None);
        }
        catch (FaultException)
        {
            // Said above.
        }
    }

    // The disks are whole: a failure concerns the definition and the start.
    private async Task<RestoredMachine> FinishInPlaceAsync(CancellationToken cancellationToken)
    {
        var starts = false;
        try
        {
            if (SmallFiles.Any())
            {
                await activation.HandOverAsync(SmallFiles, cancellationToken);
            }
            if (plan.Xml is { } xml)
            {
                await activation.DefineAsync(xml, cancellationToken);
            }
            starts = await request.MayStartAsync(cancellationToken);
            if (starts)
            {
                await activation.StartAsync();
            }
            else
            {
                Adoption.Stamp(context.Moving, request, [.. plan.Images.Select(image => image.Path)]);
            }
        }
        catch (FaultException fault)
        {
            throw new FaultException(fault.Reason, $"The disks of {plan.Name} are restored, but the machine is not complete or did not start. {fault.Message}", fault);
        }
        return await activation.FinishAsync(starts, cancellationToken);
    }
}
