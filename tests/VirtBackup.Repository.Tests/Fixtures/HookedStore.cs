using VirtBackup.Core;

namespace VirtBackup.Repository.Tests.Fixtures;

/// <summary>A store that calls back around reads and deletions, and fails or lies where a test says so.</summary>
internal sealed class HookedStore(IObjectStore inner) : IObjectStore
{
    public Func<string, Task>? BeforeRead { get; set; }

    /// <summary>Whether a read of these bytes (key, offset, count) fails, and why.</summary>
    public Func<string, long, int, FaultReason?>? Fail { get; set; }

    /// <summary>May change what was read: key, offset, and the bytes that came.</summary>
    public Func<string, long, Memory<byte>, Task>? AfterRead { get; set; }

    public Func<string, Task>? AfterDelete { get; set; }

    public IObjectRetention? Retention => inner.Retention;

    public ValueTask<IObjectWriter> CreateAsync(CancellationToken cancellationToken) => inner.CreateAsync(cancellationToken);

    public async ValueTask<int> ReadAsync(string key, long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        if (BeforeRead is { } hook)
        {
            await hook(key);
        }
        if (Fail?.Invoke(key, offset, destination.Length) is { } reason)
        {
            throw new FaultException(reason, $"The device failed at byte {offset} of {key}.");
        }
        var count = await inner.ReadAsync(key, offset, destination, cancellationToken);
        if (AfterRead is { } after)
        {
            await after(key, offset, destination[..count]);
        }
        return count;
    }

    public ValueTask<ObjectInfo?> FindAsync(string key, CancellationToken cancellationToken) => inner.FindAsync(key, cancellationToken);

    public IAsyncEnumerable<ObjectInfo> ListAsync(string prefix, CancellationToken cancellationToken) => inner.ListAsync(prefix, cancellationToken);

    public async ValueTask<bool> DeleteAsync(string key, CancellationToken cancellationToken)
    {
        var wasThere = await inner.DeleteAsync(key, cancellationToken);
        if (AfterDelete is { } hook)
        {
            await hook(key);
        }
        return wasThere;
    }

    public ValueTask<long?> GetFreeBytesAsync(CancellationToken cancellationToken) => inner.GetFreeBytesAsync(cancellationToken);
}
