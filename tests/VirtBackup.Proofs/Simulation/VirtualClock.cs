namespace VirtBackup.Proofs.Simulation;

/// <summary>Time that passes only when the thread has nothing to do.</summary>
internal sealed class VirtualClock(SingleThread thread) : TimeProvider
{
    private static readonly DateTimeOffset Start = new(2031, 5, 4, 3, 2, 1, TimeSpan.Zero);

    private readonly Lock _gate = new();
    private readonly SortedDictionary<(long Due, long Number), VirtualTimer> _timers = [];
    private long _now;
    private long _count;

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override TimeZoneInfo LocalTimeZone => TimeZoneInfo.Utc;

    public override long GetTimestamp() => Interlocked.Read(ref _now);

    public override DateTimeOffset GetUtcNow() => Start.AddTicks(GetTimestamp());

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        var timer = new VirtualTimer(this, callback, state);
        timer.Change(dueTime, period);
        return timer;
    }

    /// <summary>Jumps to the next timer; false when there is none.</summary>
    public bool Advance()
    {
        VirtualTimer timer;
        lock (_gate)
        {
            if (_timers.Count == 0)
            {
                return false;
            }
            var (key, first) = _timers.First();
            _timers.Remove(key);
            _now = Math.Max(_now, key.Due);
            timer = first;
            timer.Place = null;
            if (timer.Period > TimeSpan.Zero)
            {
                Add(timer, timer.Period);
            }
        }
        thread.Post(static state => ((VirtualTimer)state!).Ring(), timer);
        return true;
    }

    /// <summary>So much time passes at once, as for machines that sleep: timers that were due meanwhile ring late.</summary>
    public void Skip(TimeSpan time) => Interlocked.Add(ref _now, time.Ticks);

    private void Add(VirtualTimer timer, TimeSpan dueTime)
    {
        var place = (_now + dueTime.Ticks, _count++);
        timer.Place = place;
        _timers.Add(place, timer);
    }

    private sealed class VirtualTimer(VirtualClock clock, TimerCallback callback, object? state) : ITimer
    {
        private bool _disposed;

        public (long, long)? Place { get; set; }

        public TimeSpan Period { get; private set; } = Timeout.InfiniteTimeSpan;

        public void Ring()
        {
            if (!_disposed)
            {
                callback(state);
            }
        }

        public bool Change(TimeSpan dueTime, TimeSpan period)
        {
            lock (clock._gate)
            {
                if (_disposed)
                {
                    return false;
                }
                if (Place is { } place)
                {
                    clock._timers.Remove(place);
                    Place = null;
                }
                Period = period;
                if (dueTime >= TimeSpan.Zero)
                {
                    clock.Add(this, dueTime);
                }
            }
            return true;
        }

        public void Dispose()
        {
            Change(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
            _disposed = true;
        }

        public ValueTask DisposeAsync()
        {
            Dispose();
            return ValueTask.CompletedTask;
        }
    }
}
