namespace VirtBackup.Repository;

/// <summary>
/// A clock that never falls behind a time that is known to have come. Whatever a safety time is measured from is stamped by
/// it: a wall clock that was set back must not make new things look old. Safe for concurrent use.
/// </summary>
/// <param name="inner">The wall clock, and the clock that runs on by itself.</param>
internal sealed class FlooredClock(TimeProvider inner) : TimeProvider
{
    private readonly Lock _sync = new();
    private long _floorMs;
    private long _since;

    public override TimeZoneInfo LocalTimeZone => inner.LocalTimeZone;

    public override long TimestampFrequency => inner.TimestampFrequency;

    /// <summary>It is at least so late now.</summary>
    /// <param name="nowMs">Unix milliseconds.</param>
    public void Raise(long nowMs)
    {
        lock (_sync)
        {
            if (nowMs > FloorMs())
            {
                (_floorMs, _since) = (nowMs, inner.GetTimestamp());
            }
        }
    }

    public override DateTimeOffset GetUtcNow()
    {
        var wall = inner.GetUtcNow();
        lock (_sync)
        {
            var floor = FloorMs();
            return floor > wall.ToUnixTimeMilliseconds() ? DateTimeOffset.FromUnixTimeMilliseconds(floor) : wall;
        }
    }

    public override long GetTimestamp() => inner.GetTimestamp();

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) => inner.CreateTimer(callback, state, dueTime, period);

    private long FloorMs() => _floorMs == 0 ? 0 : _floorMs + (long)inner.GetElapsedTime(_since).TotalMilliseconds;
}
