using System.Text.Json;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Images;

/// <summary>A disk as a description names it. Bytes.</summary>
internal sealed record DescribedImage(Id16 Id, string Name, string Path, string Format, long LengthBytes);

/// <summary>The neutral description of a machine that is known by its images.</summary>
internal static class ImageDescription
{
    public static JsonElement Write(string name, Id16 uuid, IEnumerable<DescribedImage> disks) => JsonSerializer.SerializeToElement(new
    {
        name,
        uuid = uuid.ToUuidString(),
        disks = disks.Select(disk => new { id = disk.Id.ToString(), name = disk.Name, path = disk.Path, bytes = disk.LengthBytes, format = disk.Format }),
    });

    /// <summary>Describes what a restore made, as the images now say themselves.</summary>
    /// <param name="images">In the order of <see cref="RestoreRequest.Disks"/>.</param>
    public static async Task<JsonElement> ReadBackAsync(RestoreRequest request, IReadOnlyList<MachineImage> images, ImageInspector inspector, CancellationToken cancellationToken)
    {
        var disks = new List<DescribedImage>(images.Count);
        foreach (var (disk, image) in request.Disks.Zip(images))
        {
            disks.Add(new DescribedImage(disk.Id, disk.Name, image.Path, image.Format, await inspector.ReadLengthAsync(image, cancellationToken)));
        }
        return Write(request.Name, request.Machine, disks);
    }
}
