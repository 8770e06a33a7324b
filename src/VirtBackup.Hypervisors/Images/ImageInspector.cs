using System.Text.Json;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Images;

/// <summary>Asks qemu-img what an image is.</summary>
internal sealed class ImageInspector(string qemuImg, ProcessRunner processes)
{
    private static readonly TimeSpan Timeout = TimeSpan.FromSeconds(30);

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
            throw new FaultException(FaultReason.NotFound, $"The image {image.Path} of disk {image.Name} does not exist.");
        }
        var result = await processes.RunAsync(qemuImg, ["info", "--output=json", "-f", image.Format, image.Path], Timeout, cancellationToken);
        if (result.ExitCode != 0)
        {
            var locked = result.Error.Contains("lock", StringComparison.Ordinal);
            throw new FaultException(FaultReason.FailedPrecondition, locked
                ? $"The image {image.Path} is in use by a running machine. Stop the machine, or back it up through its monitor."
                : $"The image {image.Path} cannot be read as {image.Format}: {ProcessRunner.LastLines(result.Error, 2)}");
        }
        try
        {
            using var info = JsonDocument.Parse(result.Output);
            var length = info.RootElement.GetProperty("virtual-size").GetInt64();
            if (image.Format == "raw" && new FileInfo(image.Path).Length is var exact && exact > 0 && exact < length)
            {
                // qemu-img rounds a file up to whole sectors; what is backed up is the file. (A device has length 0 here.)
                length = exact;
            }
            return length is >= 0 and <= Limits.DiskBytesMax
                ? length : throw FaultException.Malformed($"The image {image.Path} claims {length} bytes.");
        }
        catch (Exception exception) when (exception is JsonException or KeyNotFoundException or InvalidOperationException or FormatException)
        {
            throw new FaultException(FaultReason.Malformed, $"{qemuImg} describes {image.Path} in an unknown way.", exception);
        }
    }
}
