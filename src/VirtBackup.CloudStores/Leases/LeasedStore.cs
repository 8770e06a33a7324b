using System.Runtime.CompilerServices;
using VirtBackup.Core;

namespace VirtBackup.CloudStores.Leases;

/// <summary>A store that is changed only while its lease is held. The lease's own objects are not seen through it. Safe for concurrent use.</summary>
public sealed class LeasedStore(IObjectStore store, StoreLease lease) : IObjectStore
{
    public string Location => store.Location;

    public StoreTraffic? Traffic => store.Traffic;

    public int PackBytesTarget => store.PackBytesTarget;

    public IObjectStore Near { get => ReferenceEquals(store.Near, store) ? this : field ??= new LeasedStore(store.Near, lease); }

    public IObjectRetention? Retention => store.Retention;

    public async ValueTask<IObjectWriter> CreateAsync(CancellationToken cancellationToken)
    {
        lease.Require();
        return new Writer(await store.CreateAsync(cancellationToken), lease);
    }

    public ValueTask<int> ReadAsync(string key, long offset, Memory<byte> destination, CancellationToken cancellationToken) =>
        store.ReadAsync(key, offset, destination, cancellationToken);

    public ValueTask<ObjectInfo?> FindAsync(string key, CancellationToken cancellationToken) => store.FindAsync(key, cancellationToken);

    public async IAsyncEnumerable<ObjectInfo> ListAsync(string prefix, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await foreach (var found in store.ListAsync(prefix, cancellationToken))
        {
            if (!found.Key.StartsWith(StoreLease.Prefix, StringComparison.Ordinal))
            {
                yield return found;
            }
        }
    }

    public ValueTask<bool> DeleteAsync(string key, CancellationToken cancellationToken)
    {
        lease.Require();
        return store.DeleteAsync(key, cancellationToken);
    }

    public ValueTask<long?> GetFreeBytesAsync(CancellationToken cancellationToken) => store.GetFreeBytesAsync(cancellationToken);

    private sealed class Writer(IObjectWriter writer, StoreLease lease) : IObjectWriter
    {
        public long Length => writer.Length;

        public ValueTask WriteAsync(ReadOnlyMemory<byte> source, CancellationToken cancellationToken) => writer.WriteAsync(source, cancellationToken);

        public ValueTask<bool> PublishAsync(string key, CancellationToken cancellationToken)
        {
            lease.Require();
            return writer.PublishAsync(key, cancellationToken);
        }

        public ValueTask DisposeAsync() => writer.DisposeAsync();
    }
}
