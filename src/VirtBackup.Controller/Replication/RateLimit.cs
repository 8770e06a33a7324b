using VirtBackup.Controller.Replication.Streams;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Controller.Replication;

/// <summary>
/// Keeps what several streams receive together at or below a rate, which the time of day decides (UTC), by waiting. Safe for
/// concurrent use.
/// </summary>
internal sealed class RateLimit(ReplicationRule rule, TimeProvider time) : IPace
{
    private const int MinutesOfDay = 24 * 60;
    private const int DaysOfWeek = 7;

    /// <summary>Shorter waits are saved up: a timer is not more exact.</summary>
    private static readonly TimeSpan WaitMin = TimeSpan.FromMilliseconds(10);

    /// <summary>Time that was not used is not saved up beyond this.</summary>
    private static readonly TimeSpan SlackMax = TimeSpan.FromMilliseconds(250);

    private readonly Lock _lock = new();
    private readonly long _start = time.GetTimestamp();
    private TimeSpan _due;
    private long _received;

    /// <summary>Bytes that came since the begin.</summary>
    public long Received => Interlocked.Read(ref _received);

    public async ValueTask SpendAsync(int bytes, CancellationToken cancellationToken)
    {
        Interlocked.Add(ref _received, bytes);
        if (RateAt(rule, time.GetUtcNow()) is not (> 0 and var rate))
        {
            return;
        }
        TimeSpan wait;
        lock (_lock)
        {
            var now = time.GetElapsedTime(_start);
            _due = (_due < now - SlackMax ? now - SlackMax : _due) + TimeSpan.FromSeconds((double)bytes / rate);
            wait = _due - now;
        }
        if (wait >= WaitMin)
        {
            await Task.Delay(wait, time, cancellationToken);
        }
    }

    /// <summary>Bytes in one second at that time; 0: no limit.</summary>
    internal static ulong RateAt(ReplicationRule rule, DateTimeOffset now)
    {
        var (day, minute) = (now.DayOfWeek == DayOfWeek.Sunday ? DaysOfWeek : (int)now.DayOfWeek, (now.Hour * 60) + now.Minute);
        foreach (var window in rule.Windows)
        {
            var isOverMidnight = window.EndMinute <= window.StartMinute;
            var isSinceToday = minute >= window.StartMinute && (isOverMidnight || minute < window.EndMinute);
            var isSinceYesterday = isOverMidnight && minute < window.EndMinute;
            var yesterday = day == 1 ? DaysOfWeek : day - 1;
            if ((isSinceToday && IsOn(window, day)) || (isSinceYesterday && IsOn(window, yesterday)))
            {
                return window.BytesPerSecondMax;
            }
        }
        return rule.BytesPerSecondMax;
    }

    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: a window is no part of a day.</exception>
    internal static void Validate(RateWindow window)
    {
        if (window.StartMinute >= MinutesOfDay || window.EndMinute is 0 or > MinutesOfDay || window.StartMinute == window.EndMinute)
        {
            throw new FaultException(FaultReason.InvalidArgument, "A window of the bandwidth limit starts at 00:00 to 23:59 and ends at another time of day, 00:01 to 24:00.");
        }
        if (window.Days.Count > DaysOfWeek || window.Days.Any(static day => day is 0 or > DaysOfWeek))
        {
            throw new FaultException(FaultReason.InvalidArgument, "The days of a window are numbers from 1, Monday, to 7, Sunday.");
        }
    }

    private static bool IsOn(RateWindow window, int day) => window.Days.Count == 0 || window.Days.Contains((uint)day);
}
