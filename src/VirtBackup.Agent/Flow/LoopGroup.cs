namespace VirtBackup.Agent.Flow;

/// <summary>
/// Loops that live and fall together: the first failure cancels the others and is the one that is reported. Start loops
/// from one place or from a loop of the group, then await <see cref="WhenAllAsync"/>.
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
        for (var i = 0; TryGet(i) is { } loop; i++)
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

    // A loop that starts another one is awaited before it, so none is missed.
    private Task? TryGet(int index)
    {
        lock (_gate)
        {
            return index < _loops.Count ? _loops[index] : null;
        }
    }

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
