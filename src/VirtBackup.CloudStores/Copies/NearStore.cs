using System.Collections.Concurrent;
using VirtBackup.CloudStores.Spool;
using VirtBackup.Core;

namespace VirtBackup.CloudStores.Copies;

/// <summary>
/// A store at a provider, read through local copies: what is stored this way stays near, and what is read for the first time is
/// fetched whole, in one request. Safe for concurrent use.
/// </summary>
internal sealed class NearStore : IObjectStore, IDisposable
{
    // So many different objects are fetched at once; one that several ask for is fetched once.
    private const int FetchesMax = 8;

    // Objects that cannot be kept, because they are damaged or too long: forgotten when there are so many.
    private const int ApartMax = 4096;

    private readonly ConcurrentDictionary<string, byte> _apart = new(StringComparer.Ordinal);
    private readonly CloudStore _store;
    private readonly CopyFolder _copies;
    private readonly SemaphoreSlim[] _fetching = [.. Enumerable.Range(0, FetchesMax).Select(static _ => new SemaphoreSlim(1, 1))];

    public NearStore(CloudStore store, CopyFolder copies) => (_store, _copies) = (store, copies);

    public string Location => _store.Location;

    public StoreTraffic? Traffic => _store.Traffic;

    public int PackBytesTarget => _store.PackBytesTarget;

    public IObjectRetention? Retention => _store.Retention;

    public ValueTask<IObjectWriter> CreateAsync(CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return ValueTask.FromResult<IObjectWriter>(_store.CreateWriter(PublishAsync));
    }

    public async ValueTask<int> ReadAsync(string key, long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        ObjectKey.Require(key);
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        cancellationToken.ThrowIfCancellationRequested();
        if (await _copies.ReadAsync(key, offset, destination, cancellationToken) is { } near)
        {
            return near;
        }
        // To fetch all of it for each part that is read would cost more than there is to gain.
        if (_apart.ContainsKey(key) || !_copies.HasSpaceFor(_store.PackBytesTarget))
        {
            return await _store.ReadAsync(key, offset, destination, cancellationToken);
        }
        var fetching = _fetching[(uint)key.GetHashCode(StringComparison.Ordinal) % FetchesMax];
        await fetching.WaitAsync(cancellationToken);
        try
        {
            if (await _copies.ReadAsync(key, offset, destination, cancellationToken) is { } fetched)
            {
                return fetched;
            }
            using var content = await _store.FetchAsync(key, cancellationToken);
            if (content is null || !await _copies.AddAsync(key, content, cancellationToken))
            {
                SetApart(key);
            }
        }
        catch (FaultException full) when (full.Reason == FaultReason.DeviceFull)
        {
            // It is read without a copy.
        }
        finally
        {
            fetching.Release();
        }
        return await _copies.ReadAsync(key, offset, destination, cancellationToken) ?? await _store.ReadAsync(key, offset, destination, cancellationToken);
    }

    public ValueTask<ObjectInfo?> FindAsync(string key, CancellationToken cancellationToken) => _store.FindAsync(key, cancellationToken);

    public IAsyncEnumerable<ObjectInfo> ListAsync(string prefix, CancellationToken cancellationToken) => _store.ListAsync(prefix, cancellationToken);

    public ValueTask<bool> DeleteAsync(string key, CancellationToken cancellationToken) => _store.DeleteAsync(key, cancellationToken);

    public ValueTask<long?> GetFreeBytesAsync(CancellationToken cancellationToken) => _store.GetFreeBytesAsync(cancellationToken);

    public void Dispose()
    {
        foreach (var fetching in _fetching)
        {
            fetching.Dispose();
        }
    }

    private void SetApart(string key)
    {
        if (_apart.Count >= ApartMax)
        {
            _apart.Clear();
        }
        _apart[key] = 0;
    }

    private async ValueTask<bool> PublishAsync(string key, SpooledContent content, CancellationToken cancellationToken)
    {
        var isStored = await _store.PublishAsync(key, content, cancellationToken);
        if (isStored)
        {
            // It is stored, whoever goes away.
            _ = await _copies.AddAsync(key, content, CancellationToken.None);
        }
        return isStored;
    }
}
