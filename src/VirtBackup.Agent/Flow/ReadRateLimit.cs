namespace VirtBackup.Agent.Flow;

/// <summary>Paces reading to a number of bytes a second, with bursts of at most a quarter of a second. Safe for concurrent use.</summary>
internal sealed class ReadRateLimit(long bytesPerSecond, TimeProvider time)
{
    private readonly Lock _gate = new();
    private long _nextFree = time.GetTimestamp();
    private long _bytesPerSecond = bytesPerSecond;
    private int _heldBack;

    /// <summary>0: no limit. What waits already goes on at the pace that it was given.</summary>
    public long BytesPerSecond
    {
        get => Interlocked.Read(ref _bytesPerSecond);
        set
        {
            lock (_gate)
            {
                if (_bytesPerSecond != value)
                {
                    Interlocked.Exchange(ref _bytesPerSecond, value);
                    _nextFree = Math.Min(_nextFree, time.GetTimestamp() + time.TimestampFrequency);
                }
            }
        }
    }

    /// <summary>Whether somebody had to wait since the last call.</summary>
    public bool TakeHeldBack() => Interlocked.Exchange(ref _heldBack, 0) != 0;

    /// <summary>Waits until <paramref name="bytes"/> may be read; never when there is no limit.</summary>
    public async ValueTask WaitAsync(int bytes, CancellationToken cancellationToken)
    {
        TimeSpan wait;
        lock (_gate)
        {
            if (_bytesPerSecond <= 0)
            {
                return;
            }
            var now = time.GetTimestamp();
            var earliest = now - (time.TimestampFrequency / 4);
            var start = Math.Max(_nextFree, earliest);
            _nextFree = start + (long)(bytes * (double)time.TimestampFrequency / _bytesPerSecond);
            wait = start > now ? time.GetElapsedTime(now, start) : TimeSpan.Zero;
        }
        if (wait > TimeSpan.Zero)
        {
            Interlocked.Exchange(ref _heldBack, 1);
            await Task.Delay(wait, time, cancellationToken);
        }
    }
}
