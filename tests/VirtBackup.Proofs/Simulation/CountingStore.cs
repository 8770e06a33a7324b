using VirtBackup.Core;

namespace VirtBackup.Proofs.Simulation;

/// <summary>A store that counts what is read from it.</summary>
internal sealed class CountingStore(IObjectStore inner) : IObjectStore
{
    private long _requests;
    private long _bytes;

    /// <summary>Reads of objects.</summary>
    public long Requests => Interlocked.Read(ref _requests);

    /// <summary>Bytes that they brought.</summary>
    public long Bytes => Interlocked.Read(ref _bytes);

    public ValueTask<IObjectWriter> CreateAsync(CancellationToken cancellationToken) => inner.CreateAsync(cancellationToken);

    public async ValueTask<int> ReadAsync(string key, long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _requests);
        var count = await inner.ReadAsync(key, offset, destination, cancellationToken);
        Interlocked.Add(ref _bytes, count);
        return count;
    }

    public ValueTask<ObjectInfo?> FindAsync(string key, CancellationToken cancellationToken) => inner.FindAsync(key, cancellationToken);

    public IAsyncEnumerable<ObjectInfo> ListAsync(string prefix, CancellationToken cancellationToken) => inner.ListAsync(prefix, cancellationToken);

    public ValueTask<bool> DeleteAsync(string key, CancellationToken cancellationToken) => inner.DeleteAsync(key, cancellationToken);

    public ValueTask<long?> GetFreeBytesAsync(CancellationToken cancellationToken) => inner.GetFreeBytesAsync(cancellationToken);
}
