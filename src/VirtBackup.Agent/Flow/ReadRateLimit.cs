namespace VirtBackup.Agent.Flow;

/// <summary>Paces reading to a number of bytes a second, with bursts of at most a quarter of a second. Safe for concurrent use.</summary>
internal sealed class ReadRateLimit(long bytesPerSecond, TimeProvider time)
{
    private readonly Lock _gate = new();
    private long _nextFree = time.GetTimestamp();

    /// <summary>Waits until <paramref name="bytes"/> may be read; never when the limit is 0.</summary>
    public async ValueTask WaitAsync(int bytes, CancellationToken cancellationToken)
    {
        if (bytesPerSecond <= 0)
        {
            return;
        }
        TimeSpan wait;
        lock (_gate)
        {
            var now = time.GetTimestamp();
            var earliest = now - (time.TimestampFrequency / 4);
            var start = Math.Max(_nextFree, earliest);
            _nextFree = start + (long)(bytes * (double)time.TimestampFrequency / bytesPerSecond);
            wait = start > now ? time.GetElapsedTime(now, start) : TimeSpan.Zero;
        }
        if (wait > TimeSpan.Zero)
        {
            await Task.Delay(wait, time, cancellationToken);
        }
    }
}
