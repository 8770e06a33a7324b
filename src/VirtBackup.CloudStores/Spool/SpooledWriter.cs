using VirtBackup.Core;

namespace VirtBackup.CloudStores.Spool;

/// <summary>A staged object in the spool, published by whoever made it. Whatever fails in it ends it.</summary>
internal sealed class SpooledWriter(SpoolFolder folder, Func<string, SpooledContent, CancellationToken, ValueTask<bool>> publish) : IObjectWriter
{
    private readonly SpooledContent _content = new(folder);
    private bool _isUsable = true;
    private bool _disposed;

    public long Length => _content.Length;

    public async ValueTask WriteAsync(ReadOnlyMemory<byte> source, CancellationToken cancellationToken)
    {
        Use();
        await _content.WriteAsync(source, cancellationToken);
        _isUsable = true;
    }

    public async ValueTask<bool> PublishAsync(string key, CancellationToken cancellationToken)
    {
        Use();
        ObjectKey.Require(key);
        cancellationToken.ThrowIfCancellationRequested();
        var published = await publish(key, _content, cancellationToken);
        _content.Dispose();
        return published;
    }

    public ValueTask DisposeAsync()
    {
        if (!_disposed)
        {
            _disposed = true;
            _isUsable = false;
            _content.Dispose();
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
}
