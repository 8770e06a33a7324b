using VirtBackup.Core;

namespace VirtBackup.Proofs.Simulation;

/// <summary>A store that does what the one below it does; reads can be altered.</summary>
internal abstract class PassingStore(IObjectStore inner) : IObjectStore
{
    public ValueTask<IObjectWriter> CreateAsync(CancellationToken cancellationToken) => inner.CreateAsync(cancellationToken);

    public virtual ValueTask<int> ReadAsync(string key, long offset, Memory<byte> destination, CancellationToken cancellationToken) =>
        inner.ReadAsync(key, offset, destination, cancellationToken);

    public ValueTask<ObjectInfo?> FindAsync(string key, CancellationToken cancellationToken) => inner.FindAsync(key, cancellationToken);

    public IAsyncEnumerable<ObjectInfo> ListAsync(string prefix, CancellationToken cancellationToken) => inner.ListAsync(prefix, cancellationToken);

    public ValueTask<bool> DeleteAsync(string key, CancellationToken cancellationToken) => inner.DeleteAsync(key, cancellationToken);

    public ValueTask<long?> GetFreeBytesAsync(CancellationToken cancellationToken) => inner.GetFreeBytesAsync(cancellationToken);
}
