using VirtBackup.Core;

namespace VirtBackup.Repository.Tests.Fixtures;

/// <summary>A store that calls back before it reads and after it has deleted.</summary>
internal sealed class HookedStore(IObjectStore inner) : IObjectStore
{
    public Func<string, Task>? BeforeRead { get; set; }

    public Func<string, Task>? AfterDelete { get; set; }

    public ValueTask<IObjectWriter> CreateAsync(CancellationToken cancellationToken) => inner.CreateAsync(cancellationToken);

    public async ValueTask<int> ReadAsync(string key, long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        if (BeforeRead is { } hook)
        {
            await hook(key);
        }
        return await inner.ReadAsync(key, offset, destination, cancellationToken);
    }

    public ValueTask<ObjectInfo?> FindAsync(string key, CancellationToken cancellationToken) => inner.FindAsync(key, cancellationToken);

    public IAsyncEnumerable<ObjectInfo> ListAsync(string prefix, CancellationToken cancellationToken) => inner.ListAsync(prefix, cancellationToken);

    public async ValueTask<bool> DeleteAsync(string key, CancellationToken cancellationToken)
    {
        var isGone = await inner.DeleteAsync(key, cancellationToken);
        if (AfterDelete is { } hook)
        {
            await hook(key);
        }
        return isGone;
    }

    public ValueTask<long?> GetFreeBytesAsync(CancellationToken cancellationToken) => inner.GetFreeBytesAsync(cancellationToken);
}
