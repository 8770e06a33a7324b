namespace VirtBackup.Repository.Collection;

/// <summary>Keeps reading at or below a rate, by waiting. One caller at a time.</summary>
/// <param name="clock">Where time comes from.</param>
/// <param name="bytesPerSecond">The rate; null: never waits.</param>
internal sealed class Pace(TimeProvider clock, long? bytesPerSecond)
{
    private static readonly TimeSpan WaitMin = TimeSpan.FromMilliseconds(10);

    private long _start = clock.GetTimestamp();
    private double _spent;

    /// <summary>Notes that bytes were read, and waits until as many were due.</summary>
    public async ValueTask SpendAsync(long bytes, CancellationToken cancellationToken)
    {
        if (bytesPerSecond is not { } rate)
        {
            return;
        }
        _spent += bytes;
        var wait = TimeSpan.FromSeconds(_spent / rate) - clock.GetElapsedTime(_start);
        if (wait >= WaitMin)
        {
            await Task.Delay(wait, clock, cancellationToken);
        }
        else if (wait < TimeSpan.FromSeconds(-1))
        {
            // Time that was not used is not saved up.
            (_start, _spent) = (clock.GetTimestamp(), 0);
        }
    }
}
