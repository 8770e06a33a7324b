using System.Text.Json;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Images;

/// <summary>
/// Stands beside an image while a restore in place is writing to it, durably: an image with a mark holds parts of two states
/// of the disk. It goes when the image is whole.
/// </summary>
internal static class InPlaceMark
{
    private const string Ending = ".virtbackup-restoring";

    public static string PathOf(string image) => image + Ending;

    /// <summary>Durable when this returns.</summary>
    public static void Set(string image, Id16 machine, Id16 point)
    {
        DurableFile.Write(PathOf(image), JsonSerializer.SerializeToUtf8Bytes(new { machine = machine.ToUuidString(), point = point.ToString() }));
    }

    public static void Remove(string image)
    {
        if (File.Exists(PathOf(image)))
        {
            File.Delete(PathOf(image));
            DurableFolder.Flush(Path.GetDirectoryName(image)!);
        }
    }

    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: the image is marked.</exception>
    public static void RequireNone(string image)
    {
        if (File.Exists(PathOf(image)))
        {
            throw new FaultException(FaultReason.FailedPrecondition,
                $"The image {image} is half restored: a restore in place {Describe(image)} broke off. Run it again to finish it; only if the disk was brought in order otherwise, remove {PathOf(image)}.");
        }
    }

    private static string Describe(string image)
    {
        try
        {
            using var mark = JsonDocument.Parse(File.ReadAllBytes(PathOf(image)));
            return $"of recovery point {mark.RootElement.GetProperty("point").GetString()}";
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or JsonException or KeyNotFoundException or InvalidOperationException)
        {
            return "of an unknown recovery point";
        }
    }
}
