namespace VirtBackup.Proofs.Simulation;

/// <summary>
/// The date, by which the repository judges what is old: a clock beside which days can pass while something is under way
/// that never pauses, as during a backup of many days.
/// </summary>
internal sealed class Calendar(TimeProvider clock) : TimeProvider
{
    private long _ahead;

    public override long TimestampFrequency => clock.TimestampFrequency;

    public override TimeZoneInfo LocalTimeZone => clock.LocalTimeZone;

    public long NowMs => GetUtcNow().ToUnixTimeMilliseconds();

    public override DateTimeOffset GetUtcNow() => clock.GetUtcNow().AddTicks(Interlocked.Read(ref _ahead));

    public override long GetTimestamp() => clock.GetTimestamp();

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) =>
        clock.CreateTimer(callback, state, dueTime, period);

    public void Pass(TimeSpan time) => Interlocked.Add(ref _ahead, time.Ticks);
}
