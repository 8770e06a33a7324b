namespace VirtBackup.Agent.Flow;

/// <summary>
/// Loops that live and fall together: the first failure cancels the others and is the one that is reported. Start all
/// loops from one place, then await <see cref="WhenAllAsync"/>.
/// </summary>
internal sealed class LoopGroup : IDisposable
{
    private readonly CancellationTokenSource _stop;
    private readonly List<Task> _loops = [];
    private readonly Lock _gate = new();
    private Exception? _first;

    public LoopGroup(CancellationToken cancellationToken) => _stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);

    /// <summary>Cancelled when the caller gives up or a loop fails.</summary>
    public CancellationToken Token => _stop.Token;

    public void Start(Func<CancellationToken, Task> loop)
    {
        var task = GuardAsync(loop);
        lock (_gate)
        {
            _loops.Add(task);
        }
    }

    /// <summary>Stops all loops without calling it a failure.</summary>
    public void Stop() => _stop.Cancel();

    /// <exception cref="Exception">The first failure of any loop.</exception>
    public async Task WhenAllAsync()
    {
        Task[] loops;
        lock (_gate)
        {
            loops = [.. _loops];
        }
        foreach (var loop in loops)
        {
            await loop;
        }
        ThrowIfFailed();
    }

    public void ThrowIfFailed()
    {
        lock (_gate)
        {
            if (_first is not null)
            {
                System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(_first);
            }
        }
    }

    public void Dispose() => _stop.Dispose();

    private async Task GuardAsync(Func<CancellationToken, Task> loop)
    {
        await Task.Yield();
        try
        {
            await loop(Token);
        }
        catch (Exception exception)
        {
            lock (_gate)
            {
                // A loop that only saw the others' cancellation did not fail.
                if (exception is not OperationCanceledException || !Token.IsCancellationRequested)
                {
                    _first ??= exception;
                }
            }
            await _stop.CancelAsync();
        }
    }
}
