using VirtBackup.Core;

namespace VirtBackup.Testing.Stores;

/// <summary>A store whose provider retains objects: until their time it refuses to delete them. Counts what it is asked.</summary>
public sealed class RetainingStore(IObjectStore inner, TimeProvider clock) : IObjectStore, IObjectRetention
{
    private readonly Lock _gate = new();

    /// <summary>Until when, by key.</summary>
    public Dictionary<string, long> Until { get; } = [];

    /// <summary>Objects that were asked to be retained, repetitions included.</summary>
    public IList<string> Asked { get; } = [];

    /// <summary>Deletions that were refused.</summary>
    public IList<string> Refused { get; } = [];

    /// <summary>So many more are retained; then the provider is away.</summary>
    public int Left { get; set; } = int.MaxValue;

    /// <summary>Whether the place was made for it.</summary>
    public bool CanRetain { get; set; } = true;

    public IObjectRetention? Retention => this;

    public bool IsFinal { get; set; }

    public ValueTask<IObjectWriter> CreateAsync(CancellationToken cancellationToken) => inner.CreateAsync(cancellationToken);

    public ValueTask<int> ReadAsync(string key, long offset, Memory<byte> destination, CancellationToken cancellationToken) =>
        inner.ReadAsync(key, offset, destination, cancellationToken);

    ValueTask<ObjectInfo?> IObjectStore.FindAsync(string key, CancellationToken cancellationToken) => inner.FindAsync(key, cancellationToken);

    public IAsyncEnumerable<ObjectInfo> ListAsync(string prefix, CancellationToken cancellationToken) => inner.ListAsync(prefix, cancellationToken);

    public ValueTask<bool> DeleteAsync(string key, CancellationToken cancellationToken)
    {
        if (IsRetained(key))
        {
            Refused.Add(key);
            throw new FaultException(FaultReason.RetentionLocked, $"The provider keeps {key}.");
        }
        return inner.DeleteAsync(key, cancellationToken);
    }

    public ValueTask<long?> GetFreeBytesAsync(CancellationToken cancellationToken) => inner.GetFreeBytesAsync(cancellationToken);

    public ValueTask RequireAsync(CancellationToken cancellationToken) =>
        CanRetain ? ValueTask.CompletedTask : throw new FaultException(FaultReason.FailedPrecondition, "The place was not made for it.");

    public async ValueTask RetainAsync(string key, long untilMs, CancellationToken cancellationToken)
    {
        _ = await inner.FindAsync(key, cancellationToken) ?? throw new FaultException(FaultReason.NotFound, $"There is no {key}.");
        lock (_gate)
        {
            if (Left == 0)
            {
                throw new FaultException(FaultReason.Unavailable, "The provider is away.");
            }
            Left--;
            Asked.Add(key);
            Until[key] = Math.Max(untilMs, Until.GetValueOrDefault(key));
        }
    }

    ValueTask<long> IObjectRetention.FindAsync(string key, CancellationToken cancellationToken)
    {
        lock (_gate)
        {
            return ValueTask.FromResult(Until.GetValueOrDefault(key));
        }
    }

    private bool IsRetained(string key)
    {
        lock (_gate)
        {
            return Until.GetValueOrDefault(key) > clock.GetUtcNow().ToUnixTimeMilliseconds();
        }
    }
}
