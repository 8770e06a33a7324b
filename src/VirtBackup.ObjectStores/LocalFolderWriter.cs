using Microsoft.Win32.SafeHandles;
using VirtBackup.Core;

namespace VirtBackup.ObjectStores;

/// <summary>A staged file. Whatever fails in it ends it: above all, a flush that failed is never repeated.</summary>
internal sealed class LocalFolderWriter : IObjectWriter
{
    /// <summary>
    /// A flush of everything at once would hold up everybody else's on the same file system, such as the guests' on a host that keeps
    /// its own repository.
    /// </summary>
    private const long WriteBackBytes = 8 << 20;

    private readonly StoreFolder _folder;
    private readonly string _stagedName;
    private readonly SafeFileHandle _file;
    private bool _isUsable = true;
    private bool _isNamed;
    private bool _disposed;
    private long _writtenBack;

    public LocalFolderWriter(StoreFolder folder, string stagedName)
    {
        _folder = folder;
        _stagedName = stagedName;
        _file = folder.CreateStaged(stagedName);
    }

    public long Length { get; private set; }

    public async ValueTask WriteAsync(ReadOnlyMemory<byte> source, CancellationToken cancellationToken)
    {
        Use();
        try
        {
            await RandomAccess.WriteAsync(_file, source, Length, cancellationToken);
        }
        catch (Exception exception) when (StoreFaults.IsSystemError(exception))
        {
            throw _folder.Faults.FromException("write a staged object", exception);
        }
        Length += source.Length;
        if (Length - _writtenBack >= WriteBackBytes)
        {
            _writtenBack = Length;
            _folder.BeginWriteBack(_file);
        }
        _isUsable = true;
    }

    public ValueTask<bool> PublishAsync(string key, CancellationToken cancellationToken)
    {
        Use();
        ObjectKey.Require(key);
        cancellationToken.ThrowIfCancellationRequested();
        _folder.SyncFile(_file);
        // Windows does not rename a file that somebody has open.
        _file.Dispose();
        _isNamed = _folder.Publish(_stagedName, key);
        return ValueTask.FromResult(_isNamed);
    }

    public ValueTask DisposeAsync()
    {
        if (!_disposed)
        {
            _disposed = true;
            _isUsable = false;
            _file.Dispose();
            if (!_isNamed)
            {
                Drop();
            }
        }
        return ValueTask.CompletedTask;
    }

    // Until the call that needs it has ended well, the writer is spent.
    private void Use()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (!_isUsable)
        {
            throw new FaultException(FaultReason.FailedPrecondition, "This staged object was published already or failed before: write it anew.");
        }
        _isUsable = false;
    }

    private void Drop()
    {
        try
        {
            _folder.RemoveStaged(_stagedName);
        }
        catch (Exception exception) when (exception is FaultException or ObjectDisposedException)
        {
            // It stays behind until the folder is opened next; failing here would hide why the writer was given up.
        }
    }
}
