namespace VirtBackup.Cli.Following;

/// <summary>Bytes per second over the last moments, from samples of a counter that only grows.</summary>
internal sealed class TransferRate(TimeProvider time)
{
    private static readonly TimeSpan Window = TimeSpan.FromSeconds(10);

    private readonly Queue<(long Timestamp, ulong Bytes)> _samples = new();

    /// <summary>Null until two samples of different times are there.</summary>
    public double? BytesPerSecond { get; private set; }

    public void Add(ulong bytes)
    {
        var now = time.GetTimestamp();
        if (_samples.Count > 0 && _samples.Last().Bytes > bytes)
        {
            // Another attempt started from nothing.
            _samples.Clear();
            BytesPerSecond = null;
        }
        _samples.Enqueue((now, bytes));
        while (_samples.Count > 2 && time.GetElapsedTime(_samples.Peek().Timestamp, now) > Window)
        {
            _samples.Dequeue();
        }
        var oldest = _samples.Peek();
        var elapsed = time.GetElapsedTime(oldest.Timestamp, now);
        if (elapsed > TimeSpan.Zero)
        {
            BytesPerSecond = (bytes - oldest.Bytes) / elapsed.TotalSeconds;
        }
    }

    /// <summary>Null while nobody can tell.</summary>
    public TimeSpan? Remaining(ulong done, ulong total) =>
        BytesPerSecond is > 1 and var rate && total > done && (total - done) / rate < TimeSpan.FromDays(100).TotalSeconds
            ? TimeSpan.FromSeconds((total - done) / rate)
            : null;
}
