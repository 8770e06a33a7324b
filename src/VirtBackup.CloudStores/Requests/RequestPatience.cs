namespace VirtBackup.CloudStores.Requests;

/// <summary>How long a request may take and how often it is repeated.</summary>
public sealed record RequestPatience
{
    /// <summary>Time for an answer beside the time for the bytes: a storage node that dies holds an answer up for tens of seconds.</summary>
    public TimeSpan Answer { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>The slowest link that is waited for, bytes per second.</summary>
    public long BytesPerSecondMin { get; init; } = 256 << 10;

    /// <summary>Tries of one request, the first included.</summary>
    public int AttemptsMax { get; init; } = 10;

    /// <summary>No try begins later than this after the first.</summary>
    public TimeSpan TotalMax { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>The pause after the first failure is at most this long, and twice as long after each further one.</summary>
    public TimeSpan FirstPause { get; init; } = TimeSpan.FromMilliseconds(200);

    /// <summary>Longest pause.</summary>
    public TimeSpan PauseMax { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>Time for a request with so many bytes in its body or answer.</summary>
    internal TimeSpan LimitFor(long bytes) => Answer + TimeSpan.FromSeconds((double)bytes / BytesPerSecondMin);
}
