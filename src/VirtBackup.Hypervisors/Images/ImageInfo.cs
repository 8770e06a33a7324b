using System.Text.Json;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Images;

/// <summary>One file of a chain of images.</summary>
internal sealed record ImageLayer(string Path, string Format);

/// <summary>A dirty bitmap in an image that nobody has open.</summary>
/// <param name="Recording">Every program of QEMU that writes to the image records its writes there.</param>
/// <param name="Inconsistent">Whoever had the image open last did not store the bitmap.</param>
internal sealed record ImageBitmap(string Name, bool Recording, bool Inconsistent);

/// <summary>What <c>qemu-img info --output=json</c> says about one file, held to what a backup follows.</summary>
/// <param name="LengthBytes">The length of the disk inside.</param>
/// <param name="Backing">The file below, or null.</param>
internal sealed record ImageInfo(long LengthBytes, ImageLayer? Backing)
{
    /// <summary>Dirty bitmaps that the image keeps (qcow2).</summary>
    public IReadOnlyList<ImageBitmap> Bitmaps { get; init; } = [];

    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Malformed"/>: not such a description. <see cref="FaultReason.Unsupported"/>: the image leads to
    /// somewhere that is not followed. <see cref="FaultReason.NotFound"/>: the file below is missing.
    /// </exception>
    public static ImageInfo Parse(string json, string path)
    {
        try
        {
            using var document = JsonDocument.Parse(json);
            var info = document.RootElement;
            if (Find(Find(Find(info, "format-specific"), "data"), "data-file") is not null)
            {
                throw new FaultException(FaultReason.Unsupported, $"The image {path} keeps its data in another file, which is not supported. Convert it: qemu-img convert -f qcow2 -O qcow2 {path} NEW.");
            }
            return new ImageInfo(info.GetProperty("virtual-size").GetInt64(), FindBacking(info, path)) { Bitmaps = [.. ReadBitmaps(info)] };
        }
        catch (Exception exception) when (exception is JsonException or KeyNotFoundException or InvalidOperationException or FormatException)
        {
            throw new FaultException(FaultReason.Malformed, $"qemu-img describes {path} in an unknown way.", exception);
        }
    }

    private static IEnumerable<ImageBitmap> ReadBitmaps(JsonElement info)
    {
        if (Find(Find(Find(info, "format-specific"), "data"), "bitmaps") is not { } list)
        {
            yield break;
        }
        foreach (var bitmap in list.EnumerateArray())
        {
            var flags = bitmap.GetProperty("flags").EnumerateArray().Select(flag => flag.GetString()).ToHashSet();
            yield return new ImageBitmap(bitmap.GetProperty("name").GetString()!, Recording: flags.Contains("auto"), Inconsistent: flags.Contains("in-use"));
        }
    }

    private static ImageLayer? FindBacking(JsonElement info, string path)
    {
        if (Find(info, "backing-filename") is not { } named)
        {
            return null;
        }
        var format = Find(info, "backing-filename-format")?.GetString();
        if (format is not ("raw" or "qcow2"))
        {
            // To guess it would let a guest, which writes a raw disk's first bytes, have any file of this host read.
            throw new FaultException(FaultReason.Unsupported,
                $"The image {path} names the backing file {named.GetString()} {(format is null ? "without its format" : $"of format '{format}'")}; raw and qcow2 can be read. Record it: qemu-img rebase -u -f qcow2 -b FILE -F FORMAT {path}.");
        }
        var backing = (Find(info, "full-backing-filename") ?? named).GetString()!;
        if (!Path.IsPathFullyQualified(backing))
        {
            throw new FaultException(FaultReason.Unsupported, $"The image {path} has the backing file '{backing}', which is not a file of this host. Make one file of it: qemu-img convert -f qcow2 -O qcow2 {path} NEW.");
        }
        return File.Exists(backing)
            ? new ImageLayer(backing, format)
            : throw new FaultException(FaultReason.NotFound, $"The backing file {backing} of the image {path} does not exist. Bring it back, or correct the image with qemu-img rebase -u.");
    }

    private static JsonElement? Find(JsonElement? element, string name) =>
        element is { ValueKind: JsonValueKind.Object } value && value.TryGetProperty(name, out var found) && found.ValueKind != JsonValueKind.Null ? found : null;
}
