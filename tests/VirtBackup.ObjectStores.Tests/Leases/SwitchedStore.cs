using VirtBackup.Core;

namespace VirtBackup.ObjectStores.Tests.Leases;

/// <summary>A store that a test can take away from one of its users.</summary>
internal sealed class SwitchedStore(IObjectStore store) : IObjectStore
{
    public bool IsAway { get; set; }

    private IObjectStore Present => IsAway ? throw new FaultException(FaultReason.Unavailable, "It is away.") : store;

    public ValueTask<IObjectWriter> CreateAsync(CancellationToken cancellationToken) => Present.CreateAsync(cancellationToken);

    public ValueTask<int> ReadAsync(string key, long offset, Memory<byte> destination, CancellationToken cancellationToken) =>
        Present.ReadAsync(key, offset, destination, cancellationToken);

    public ValueTask<ObjectInfo?> FindAsync(string key, CancellationToken cancellationToken) => Present.FindAsync(key, cancellationToken);

    public IAsyncEnumerable<ObjectInfo> ListAsync(string prefix, CancellationToken cancellationToken) => Present.ListAsync(prefix, cancellationToken);

    public ValueTask<bool> DeleteAsync(string key, CancellationToken cancellationToken) => Present.DeleteAsync(key, cancellationToken);

    public ValueTask<long?> GetFreeBytesAsync(CancellationToken cancellationToken) => Present.GetFreeBytesAsync(cancellationToken);
}
