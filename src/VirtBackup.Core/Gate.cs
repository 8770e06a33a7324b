namespace VirtBackup.Core;

/// <summary>Lets one in at a time. Safe for concurrent use.</summary>
public sealed class Gate : IDisposable
{
    private readonly SemaphoreSlim _gate = new(1, 1);

    /// <summary>Waits for the gate; dispose the result to open it again.</summary>
    public async ValueTask<IDisposable> CloseAsync(CancellationToken cancellationToken)
    {
        await _gate.WaitAsync(cancellationToken);
        return new Closed(_gate);
    }

    /// <summary>The gate if nobody has it; null otherwise.</summary>
    public IDisposable? TryClose() => _gate.Wait(0) ? new Closed(_gate) : null;

    public void Dispose() => _gate.Dispose();

    private sealed class Closed(SemaphoreSlim gate) : IDisposable
    {
        private bool _disposed;

        public void Dispose()
        {
            if (!_disposed)
            {
                _disposed = true;
                gate.Release();
            }
        }
    }
}
