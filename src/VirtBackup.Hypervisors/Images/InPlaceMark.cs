using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Images;

/// <summary>
/// Stands beside an image while a restore in place is writing to it, durably: an image with a mark holds parts of two states
/// of the disk. It goes when the image is whole. The mark of a device lies in the agent's folder, since the folder of devices is
/// made anew whenever the host starts.
/// </summary>
internal static class InPlaceMark
{
    private const string Ending = ".virtbackup-restoring";

    /// <param name="stateFolder">For marks of devices; null: they are never written.</param>
    public static string PathOf(string image, string? stateFolder = null) => BlockDevice.Is(image) && stateFolder is not null
        ? Path.Combine(stateFolder, $"{Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(image)))[..32]}{Ending}") : image + Ending;

    /// <summary>Durable when this returns.</summary>
    public static void Set(string image, string? stateFolder, Id16 machine, Id16 point)
    {
        var path = PathOf(image, stateFolder);
        if (BlockDevice.Is(image) && stateFolder is not null)
        {
            PrivateFolder.Create(stateFolder);
        }
        DurableFile.Write(path, JsonSerializer.SerializeToUtf8Bytes(new { machine = machine.ToUuidString(), point = point.ToString() }));
    }

    public static void Remove(string image, string? stateFolder)
    {
        var path = PathOf(image, stateFolder);
        if (File.Exists(path))
        {
            File.Delete(path);
            DurableFolder.Flush(Path.GetDirectoryName(path)!);
        }
    }

    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: the image is marked.</exception>
    public static void RequireNone(string image, string? stateFolder = null)
    {
        var path = PathOf(image, stateFolder);
        if (File.Exists(path))
        {
            throw new FaultException(FaultReason.FailedPrecondition,
                $"The image {image} is half restored: a restore in place {Describe(path)} broke off. Run it again to finish it; only if the disk was brought in order otherwise, remove {path}.");
        }
        // Whoever was killed before its mark stood has written nothing to the image. The folder is made with the first mark of a device.
        if (File.Exists(path + DurableFile.PartialSuffix)) File.Delete(path + DurableFile.PartialSuffix);
    }

    private static string Describe(string path)
    {
        try
        {
            using var mark = JsonDocument.Parse(File.ReadAllBytes(path));
            return $"of recovery point {mark.RootElement.GetProperty("point").GetString()}";
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or JsonException or KeyNotFoundException or InvalidOperationException)
        {
            return "of an unknown recovery point";
        }
    }
}
