using System.Text.Json;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>Finds bitmaps of ours that qcow2 images have stored. Only looks; an image that cannot be looked at has none.</summary>
internal sealed class BitmapInspector(string qemuImg, ProcessRunner processes)
{
    private static readonly TimeSpan Timeout = TimeSpan.FromSeconds(30);

    public async Task<IReadOnlySet<Id16>> FindPointsAsync(IReadOnlyList<string> layers, CancellationToken cancellationToken)
    {
        var points = new HashSet<Id16>();
        foreach (var layer in layers)
        {
            // The image is in use by its machine: bitmaps that were stored when it was opened are seen.
            var result = await processes.RunAsync(qemuImg, ["info", "-U", "--output=json", "-f", "qcow2", layer], Timeout, cancellationToken);
            if (result.ExitCode == 0)
            {
                points.UnionWith(Read(result.Output));
            }
        }
        return points;
    }

    internal static IEnumerable<Id16> Read(string json)
    {
        var points = new List<Id16>();
        try
        {
            using var document = JsonDocument.Parse(json);
            if (document.RootElement.TryGetProperty("format-specific", out var specific) && specific.TryGetProperty("data", out var data)
                && data.TryGetProperty("bitmaps", out var bitmaps))
            {
                foreach (var bitmap in bitmaps.EnumerateArray())
                {
                    if (CheckpointRecord.TryReadName(bitmap.GetProperty("name").GetString() ?? "", out var point))
                    {
                        points.Add(point);
                    }
                }
            }
        }
        catch (Exception failure) when (failure is JsonException or InvalidOperationException or KeyNotFoundException)
        {
            // Then nothing is known of it.
        }
        return points;
    }
}
