using VirtBackup.Hypervisors.Images;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>
/// Reads a machine that is off from its image files, under QEMU's own image locks, so that it cannot be started on them
/// meanwhile. Checkpoints stay as they are: they go on recording when the machine is started.
/// </summary>
internal static class OfflineCapture
{
    public const string Reason = "read in full: the machine is off, and libvirt begins change tracking only in a running one";

    public static async Task<ICapture> BeginAsync(
        LibvirtContext context, LibvirtConnection connection, DomainView view, Action<string> log, CancellationToken cancellationToken)
    {
        var inspector = new ImageInspector(context.Options.QemuImg, context.Processes);
        var folder = Directory.CreateTempSubdirectory("virtbackup-image-").FullName;
        var disks = new List<ImageCapturedDisk>();
        try
        {
            foreach (var disk in view.Disks.Where(disk => disk.Captured))
            {
                var image = new MachineImage(disk.Target, disk.Source.Path!, disk.Format);
                // libvirt reads the header without the image's lock; a machine that was started meanwhile is noticed here.
                var summary = disk.Summary with { LengthBytes = await LengthOfAsync(inspector, image, disk, cancellationToken) };
                var layers = await inspector.ReadLayersAsync(image, cancellationToken);
                disks.Add(await ImageCapturedDisk.OpenAsync(
                    image, layers, summary, told: null, Reason, Path.Combine(folder, $"{disks.Count}.sock"), context.ImageTools, cancellationToken));
            }
            return new ImageCapture(LibvirtDescriber.Describe(view), disks, [.. view.Summaries.Where(disk => disk.SkipReason is not null)], folder)
            {
                Contents = await FirmwareVariables.ReadAsync(connection, view.Document, log, cancellationToken),
            };
        }
        catch
        {
            foreach (var disk in disks)
            {
                await disk.DisposeAsync();
            }
            Directory.Delete(folder, recursive: true);
            throw;
        }
    }

    // A block device has no length that a file would show.
    private static async Task<long> LengthOfAsync(ImageInspector inspector, MachineImage image, LibvirtDisk disk, CancellationToken cancellationToken)
    {
        var length = await inspector.ReadLengthAsync(image, cancellationToken);
        return length > 0 ? length : disk.LengthBytes;
    }
}
