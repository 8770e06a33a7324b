using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Images;

/// <summary>Asks qemu-img what an image is, and whether all of it is there.</summary>
internal sealed class ImageInspector(string qemuImg, ProcessRunner processes)
{
    private const int LayersMax = 64;
    private const int CheckFoundDamage = 2;
    private const int CheckFoundLeaks = 3;
    private static readonly TimeSpan Timeout = TimeSpan.FromSeconds(30);

    // It reads all tables of the image: some seconds for a disk of many terabytes.
    private static readonly TimeSpan CheckTimeout = TimeSpan.FromMinutes(10);

    /// <summary>The length of the disk inside, in bytes.</summary>
    /// <exception cref="FaultException">The image is missing, in use by a running machine, damaged, or of another format.</exception>
    public async Task<long> ReadLengthAsync(MachineImage image, CancellationToken cancellationToken)
    {
        if (image.Format is not ("raw" or "qcow2"))
        {
            throw new FaultException(FaultReason.Unsupported, $"{image.Path} is configured with the format '{image.Format}'; raw and qcow2 can be read.");
        }
        if (!File.Exists(image.Path))
        {
            throw new FaultException(FaultReason.NotFound, $"The image {image.Path} of disk {image.Name} does not exist. Bring it back, or correct its path in agent.yaml.");
        }
        var info = await ReadInfoAsync(image.Path, image.Format, cancellationToken);
        var length = info.LengthBytes;
        if (image.Format == "raw" && MeasureFile(image.Path) is var exact && exact > 0 && exact < length)
        {
            // qemu-img rounds a file up to whole sectors; what is backed up is the file.
            length = exact;
        }
        return length is >= 0 and <= Limits.DiskBytesMax
            ? length : throw FaultException.Malformed($"The image {image.Path} claims {length} bytes.");
    }

    /// <summary>Bytes of the file that the path leads to, whatever links are on the way; 0 for a device.</summary>
    private static long MeasureFile(string path) =>
        File.ResolveLinkTarget(path, returnFinalTarget: true) is FileInfo target ? target.Length : new FileInfo(path).Length;

    /// <summary>
    /// The files that the image consists of, topmost first, all of them whole. QEMU reads zeros where a qcow2 file was cut
    /// off, and guesses the format of a backing file that names none: both must not happen in a backup, so it is looked at
    /// before.
    /// </summary>
    /// <exception cref="FaultException">A layer is missing, damaged, cut off, or of a kind that is not followed.</exception>
    public async Task<IReadOnlyList<ImageLayer>> ReadLayersAsync(MachineImage image, CancellationToken cancellationToken)
    {
        var layers = await FollowLayersAsync(image, cancellationToken);
        // Opening a layer opens those below it: each is judged before the first is opened.
        foreach (var layer in layers.Where(layer => layer.Format == "qcow2"))
        {
            await RequireWholeAsync(layer.Path, cancellationToken);
        }
        return layers;
    }

    /// <summary>The files that the image consists of, topmost first, whether they are whole or not.</summary>
    /// <exception cref="FaultException">A layer is missing, or of a kind that is not followed.</exception>
    public async Task<IReadOnlyList<ImageLayer>> FollowLayersAsync(MachineImage image, CancellationToken cancellationToken)
    {
        var layers = new List<ImageLayer>();
        for (var next = new ImageLayer(image.Path, image.Format); next is not null;)
        {
            if (layers.Count == LayersMax || layers.Any(layer => layer.Path == next.Path))
            {
                throw FaultException.Malformed($"The image {image.Path} has more than {LayersMax} backing files, or one that is its own backing file ({next.Path}).");
            }
            layers.Add(next);
            next = next.Format == "qcow2" ? (await ReadInfoAsync(next.Path, next.Format, cancellationToken)).Backing : null;
        }
        return layers;
    }

    /// <summary>The dirty bitmaps of an image; none for formats that keep none.</summary>
    public async Task<IReadOnlyList<ImageBitmap>> ReadBitmapsAsync(MachineImage image, CancellationToken cancellationToken) =>
        (await ReadInfoAsync(image.Path, image.Format, cancellationToken)).Bitmaps;

    private async Task<ImageInfo> ReadInfoAsync(string path, string format, CancellationToken cancellationToken)
    {
        // Never without a format: a guest may have written another format's header into a raw disk.
        var result = await processes.RunAsync(qemuImg, ["info", "--output=json", "-f", format, path], Timeout, cancellationToken);
        if (result.ExitCode != 0)
        {
            throw Unreadable(path, format, result.Error);
        }
        return ImageInfo.Parse(result.Output, path);
    }

    private async Task RequireWholeAsync(string path, CancellationToken cancellationToken)
    {
        var result = await processes.RunAsync(qemuImg, ["check", "--output=json", "-f", "qcow2", path], CheckTimeout, cancellationToken);
        if (result.ExitCode == CheckFoundDamage)
        {
            throw new FaultException(FaultReason.FailedPrecondition,
                $"The image {path} is damaged or was cut off: parts of its disk would be read as zeros. See 'qemu-img check {path}', and bring the image back from a copy.");
        }
        if (result.ExitCode is not (0 or CheckFoundLeaks))
        {
            throw Unreadable(path, "qcow2", result.Error);
        }
    }

    private static FaultException Unreadable(string path, string format, string said)
    {
        if (said.Contains("lock", StringComparison.Ordinal))
        {
            return new FaultException(FaultReason.FailedPrecondition, $"The image {path} is in use by a running machine. Stop the machine, or back it up through its monitor.");
        }
        return new FaultException(FaultReason.FailedPrecondition,
            $"The image {path} cannot be read as {format}: {ProcessRunner.LastLines(said, 1)}. Check the file, and its format in agent.yaml.");
    }
}
