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

    /// <summary>The disks of a recovery point in the same form, whatever platform described them.</summary>
    public static JsonElement OfStored(MachineConfiguration configuration, Id16 uuid)
    {
        var disks = new List<DescribedImage>();
        if (configuration.Neutral.ValueKind == JsonValueKind.Object && configuration.Neutral.TryGetProperty("disks", out var list) && list.ValueKind == JsonValueKind.Array)
        {
            foreach (var disk in list.EnumerateArray().Where(disk => disk.ValueKind == JsonValueKind.Object))
            {
                if (Id16.TryParse(TextOf(disk, "id"), out var id) && TextOf(disk, "name") is { } name)
                {
                    disks.Add(new DescribedImage(id, name, TextOf(disk, "path") ?? "", TextOf(disk, "format") ?? "", LengthOf(disk, "lengthBytes") ?? LengthOf(disk, "bytes") ?? 0));
                }
            }
        }
        return Write(configuration.Name, uuid, disks);
    }

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

    private static string? TextOf(JsonElement element, string name) =>
        element.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;

    private static long? LengthOf(JsonElement element, string name) =>
        element.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.Number && value.TryGetInt64(out var bytes) ? bytes : null;
}
