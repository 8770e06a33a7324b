using VirtBackup.Core;

namespace VirtBackup.Repository;

/// <summary>Lets many in together, or one alone: whoever comes after one that waits to be alone waits for it. Safe for concurrent use.</summary>
internal sealed class SharedGate : IDisposable
{
    private readonly Gate _entrance = new();
    private readonly Gate _room = new();
    private readonly Lock _sync = new();
    private IDisposable? _shared;
    private int _inside;

    /// <summary>Waits until nobody is alone; dispose the result to leave.</summary>
    public async ValueTask<IDisposable> EnterAsync(CancellationToken cancellationToken)
    {
        using var entering = await _entrance.CloseAsync(cancellationToken);
        var isFirst = false;
        lock (_sync)
        {
            isFirst = _inside++ == 0;
        }
        if (isFirst)
        {
            try
            {
                _shared = await _room.CloseAsync(cancellationToken);
            }
            catch
            {
                _inside = 0;
                throw;
            }
        }
        return new Left(this);
    }

    /// <summary>Waits until nobody is inside; dispose the result to open it again.</summary>
    public async ValueTask<IDisposable> CloseAsync(CancellationToken cancellationToken)
    {
        using var entering = await _entrance.CloseAsync(cancellationToken);
        return await _room.CloseAsync(cancellationToken);
    }

    public void Dispose()
    {
        _entrance.Dispose();
        _room.Dispose();
    }

    private void Leave()
    {
        lock (_sync)
        {
            if (--_inside == 0)
            {
                _shared!.Dispose();
            }
        }
    }

    private sealed class Left(SharedGate gate) : IDisposable
    {
        private int _disposed;

        public void Dispose()
        {
            if (Interlocked.Exchange(ref _disposed, 1) == 0)
            {
                gate.Leave();
            }
        }
    }
}
