using System.Globalization;
using VirtBackup.Hypervisors.Qemu;

namespace VirtBackup.Hypervisors.Images;

/// <summary>Gives an image that nobody has open another length.</summary>
internal static class ImageLength
{
    private const int SectorBytes = 512;
    private static readonly TimeSpan Timeout = TimeSpan.FromMinutes(10);

    /// <summary>
    /// What lies behind the new end is gone; what comes to it reads as zeros. Our change tracking goes: what is cut off and what
    /// comes to it are changes that no bitmap records.
    /// </summary>
    public static async Task ChangeAsync(MachineImage image, long from, long to, ImageTools tools, CancellationToken cancellationToken)
    {
        var processes = new ProcessRunner(tools.Time);
        foreach (var bitmap in await new ImageInspector(tools.QemuImg, processes).ReadBitmapsAsync(image, cancellationToken))
        {
            if (bitmap.Name.StartsWith(TrackingName.Prefix, StringComparison.Ordinal))
            {
                await processes.RequireAsync(tools.QemuImg, ["bitmap", "--remove", "-f", image.Format, image.Path, bitmap.Name], Timeout, cancellationToken);
            }
        }
        var sectors = (to + SectorBytes - 1) / SectorBytes * SectorBytes;
        await processes.RequireAsync(tools.QemuImg,
            ["resize", "-q", "-f", image.Format, .. to < from ? ["--shrink"] : Array.Empty<string>(), image.Path, sectors.ToString(CultureInfo.InvariantCulture)], Timeout, cancellationToken);
        if (image.Format == "raw")
        {
            using var file = File.OpenHandle(image.Path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
            RandomAccess.SetLength(file, to);
        }
    }
}
