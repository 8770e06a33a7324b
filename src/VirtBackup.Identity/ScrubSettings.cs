using System.Text.Json.Serialization;

namespace VirtBackup.Identity;

/// <summary><c>scrub</c> in <c>controller.json</c>.</summary>
public sealed record ScrubSettings
{
    public const int DaysMax = 3650;

    /// <summary>The whole repository is read within so many days.</summary>
    [JsonPropertyName("days")]
    public int Days { get; init; } = 30;

    /// <summary>Never read faster; 0: no limit. When it is too slow for <see cref="Days"/>, it counts all the same.</summary>
    [JsonPropertyName("read_bytes_per_second_max")]
    public long ReadBytesPerSecondMax { get; init; }

    /// <summary>Nothing is read by itself, only when somebody asks.</summary>
    [JsonPropertyName("off")]
    public bool Off { get; init; }
}
