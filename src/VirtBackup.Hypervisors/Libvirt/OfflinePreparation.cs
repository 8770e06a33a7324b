using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>
/// Captures a machine that is off from its image files, under QEMU's own image locks, so that it cannot be started on them
/// meanwhile. Changes come from the bitmaps that its images have stored. Leaves nothing behind on failure.
/// </summary>
internal sealed class OfflinePreparation(LibvirtContext context, LibvirtConnection connection, CaptureRequest request)
{
    private readonly OfflineTracking tracking = new(context, connection);

    public async Task<CapturePlan> PlanAsync(DomainView view, List<CheckpointRecord> checkpoints, CancellationToken cancellationToken)
    {
        var basis = TrackingChoice.Basis(checkpoints, request.Base);
        var plans = new List<DiskPlan>();
        var folder = Directory.CreateTempSubdirectory("virtbackup-image-").FullName;
        try
        {
            foreach (var disk in view.Disks)
            {
                plans.Add(!disk.Captured ? new DiskPlan(disk.Summary, false, 0, $"not captured: {disk.Summary.SkipReason}")
                    : LibvirtPreparation.RefusalOf(disk, active: false) is { } refusal ? new DiskPlan(disk.Summary, false, 0, refusal)
                    : await PlanAsync(view, basis, disk, Path.Combine(folder, $"{plans.Count}.sock"), cancellationToken));
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
        plans.AddRange(view.Summaries.Skip(view.Disks.Count).Select(disk => new DiskPlan(disk, false, 0, $"not captured: {disk.SkipReason}")));
        return new CapturePlan(plans, FleeceBytesMax: 0, FreeSpace.Of(context.Options.FleeceFolder));
    }

    public async Task<ICapture> BeginAsync(DomainView view, List<CheckpointRecord> checkpoints, CancellationToken cancellationToken)
    {
        var basis = TrackingChoice.Basis(checkpoints, request.Base);
        var looked = new List<OfflineDisk>();
        foreach (var disk in view.Disks.Where(disk => disk.Captured))
        {
            InPlaceMark.RequireNone(disk.Source.Path!);
            looked.Add(await tracking.LookAsync(disk, checks: true, cancellationToken));
        }
        var folder = Directory.CreateTempSubdirectory("virtbackup-image-").FullName;
        var disks = new List<ImageCapturedDisk>();
        try
        {
            // Before the images are locked, since it writes to them: what is written until they are locked is tracked, too.
            var tracked = await tracking.BeginAsync(view, looked, request.Point, request.Log, cancellationToken);
            foreach (var disk in looked)
            {
                var token = tracked.Contains(disk.Disk.Target) ? CheckpointRecord.NameOf(request.Point) : "";
                disks.Add(await OpenAsync(view, basis, disk, token, Path.Combine(folder, $"{disks.Count}.sock"), cancellationToken));
            }
            var tpm = await DomainTpm.FindMemoryAsync(context, connection, view, request, cancellationToken);
            IReadOnlyList<MachineContent> contents = [.. await FirmwareVariables.ReadAsync(connection, view.Document, request.Log, cancellationToken), .. tpm?.Read() ?? []];
            var images = new ImageCapture(LibvirtDescriber.Describe(view), disks, [.. view.Summaries.Where(disk => disk.SkipReason is not null), .. tpm?.ListSkipped() ?? []], folder)
            {
                Contents = contents,
            };
            if (request.Gate is not null)
            {
                await request.Gate.PassThroughAsync(cancellationToken);
            }
            return new OfflineCapture(context, connection, request, images);
        }
        catch
        {
            await UndoAsync(disks, folder);
            throw;
        }
    }

    private async Task<DiskPlan> PlanAsync(DomainView view, CheckpointRecord? basis, LibvirtDisk disk, string socket, CancellationToken cancellationToken)
    {
        var looked = await tracking.LookAsync(disk, checks: false, cancellationToken);
        await using var opened = await OpenAsync(view, basis, looked, "", socket, cancellationToken);
        long bytes = 0;
        await foreach (var extent in opened.ListExtentsAsync(cancellationToken))
        {
            bytes += extent.Length;
        }
        return new DiskPlan(looked.Disk.Summary, opened.ChangedOnly, bytes, opened.Reason);
    }

    private async Task<ImageCapturedDisk> OpenAsync(DomainView view, CheckpointRecord? basis, OfflineDisk disk, string token, string socket, CancellationToken cancellationToken)
    {
        var (changedOnly, reason) = view.Persistent
            ? TrackingChoice.Choose(basis, request.Base, disk.Disk, (checkpoint, _) => OfflineTracking.ReasonAgainst(checkpoint, disk))
            : (false, "read in full: the machine is transient");
        var bitmap = changedOnly ? CheckpointRecord.NameOf(basis!.Point) : null;
        return await ImageCapturedDisk.OpenAsync(
            disk.Image, disk.Layers, disk.Disk.Summary, told: null, reason, socket, context.ImageTools, cancellationToken, new ImageTracking(bitmap, token));
    }

    private async Task UndoAsync(List<ImageCapturedDisk> disks, string folder)
    {
        foreach (var disk in disks)
        {
            await disk.DisposeAsync();
        }
        Directory.Delete(folder, recursive: true);
        try
        {
            await context.SettleAsync(connection, request.Machine, point => point != request.Point, CancellationToken.None);
        }
        catch (FaultException)
        {
            // The first failure tells more; what is left, the next settlement removes.
        }
    }
}
