using VirtBackup.Catalog.Copies;
using VirtBackup.Core;
using VirtBackup.Repository;
using VirtBackup.Repository.Points;

namespace VirtBackup.Controller.Copies;

/// <summary>A copy store that is open. It closes when nobody uses it any more. Safe for concurrent use.</summary>
internal sealed class OpenCopy(CopyStoreRow row, CopyPlace place, BackupRepository repository) : IAsyncDisposable
{
    private readonly CancellationTokenSource _closing = new();
    private readonly TaskCompletionSource _idle = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Lock _sync = new();
    private int _users = 1;
    private bool _isClosing;

    public CopyStoreRow Row => row;

    public BackupRepository Repository => repository;

    public IObjectStore Store => place.Store;

    public PointLocks Locks { get; } = new(place.Store);

    /// <summary>The locks in the store are known from its opening on: nobody else places any.</summary>
    public bool KnowsLocks { get; set; }

    /// <summary>Cancelled when it is about to close.</summary>
    public CancellationToken Closing => _closing.Token;

    /// <summary>Keeps it open until the result is disposed; null: it is closing.</summary>
    public IDisposable? TryUse()
    {
        lock (_sync)
        {
            if (_isClosing)
            {
                return null;
            }
            _users++;
            return new Use(this);
        }
    }

    /// <summary>Tells its users, waits until they are done, and closes.</summary>
    public async ValueTask DisposeAsync()
    {
        lock (_sync)
        {
            _isClosing = true;
        }
        await _closing.CancelAsync();
        Leave();
        await _idle.Task;
        _closing.Dispose();
        await repository.DisposeAsync();
        await place.DisposeAsync();
    }

    private void Leave()
    {
        lock (_sync)
        {
            if (--_users == 0)
            {
                _idle.SetResult();
            }
        }
    }

    private sealed class Use(OpenCopy copy) : IDisposable
    {
        private OpenCopy? _copy = copy;

        public void Dispose() => Interlocked.Exchange(ref _copy, null)?.Leave();
    }
}
