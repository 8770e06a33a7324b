using VirtBackup.Core;

namespace VirtBackup.Repository.Commits;

/// <summary>
/// Numbers the points that came into the index, and wakes whoever waits for the next. It lives in memory: points that were
/// there when the repository was opened have the number 0. Safe for concurrent use.
/// </summary>
internal sealed class AdoptionLog
{
    private readonly Lock _sync = new();
    private readonly Dictionary<Id16, long> _numbers = [];
    private TaskCompletionSource _next = NewSignal();
    private long _latest;

    /// <summary>How many points came so far.</summary>
    public long Latest
    {
        get
        {
            lock (_sync)
            {
                return _latest;
            }
        }
    }

    /// <summary>The number with which the point came last; 0: it was there before.</summary>
    public long NumberOf(Id16 point)
    {
        lock (_sync)
        {
            return _numbers.GetValueOrDefault(point);
        }
    }

    public void Add(Id16 point)
    {
        lock (_sync)
        {
            _numbers[point] = ++_latest;
            _next.SetResult();
            _next = NewSignal();
        }
    }

    /// <summary>The point is gone for good.</summary>
    public void Remove(Id16 point)
    {
        lock (_sync)
        {
            _numbers.Remove(point);
        }
    }

    /// <summary>Returns once <see cref="Latest"/> is beyond <paramref name="number"/>.</summary>
    public async ValueTask WaitAsync(long number, CancellationToken cancellationToken)
    {
        while (true)
        {
            Task next;
            lock (_sync)
            {
                if (_latest > number)
                {
                    return;
                }
                next = _next.Task;
            }
            await next.WaitAsync(cancellationToken);
        }
    }

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
