using VirtBackup.Core;

namespace VirtBackup.Testing.Stores;

/// <summary>A staged object of a <see cref="SimulatedStore"/>; spent after its first failure, as the port demands.</summary>
internal sealed class SimulatedWriter(SimulatedStore store, SimulatedFile file) : IObjectWriter
{
    private bool _isUsable = true;
    private bool _disposed;

    public long Length => file.Length;

    public ValueTask WriteAsync(ReadOnlyMemory<byte> source, CancellationToken cancellationToken)
    {
        Use();
        cancellationToken.ThrowIfCancellationRequested();
        store.Write(file, source.Span);
        _isUsable = true;
        return ValueTask.CompletedTask;
    }

    public ValueTask<bool> PublishAsync(string key, CancellationToken cancellationToken)
    {
        Use();
        ObjectKey.Require(key);
        cancellationToken.ThrowIfCancellationRequested();
        return store.PublishAsync(file, key);
    }

    public ValueTask DisposeAsync()
    {
        if (!_disposed)
        {
            _disposed = true;
            store.Drop(file);
        }
        return ValueTask.CompletedTask;
    }

    private void Use()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (!_isUsable)
        {
            throw new FaultException(FaultReason.FailedPrecondition, "This staged object was published already or failed before: write it anew.");
        }
        _isUsable = false;
    }
}
