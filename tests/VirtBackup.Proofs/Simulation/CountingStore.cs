using VirtBackup.Core;

namespace VirtBackup.Proofs.Simulation;

/// <summary>What was read of an object.</summary>
internal readonly record struct ReadCount(long Requests, long Bytes);

/// <summary>A store that counts what is read from it.</summary>
internal sealed class CountingStore(IObjectStore inner) : PassingStore(inner)
{
    private readonly Lock _gate = new();
    private Dictionary<string, ReadCount> _reads = new(StringComparer.Ordinal);

    /// <summary>What was read since the last call, by object.</summary>
    public IReadOnlyDictionary<string, ReadCount> Take()
    {
        lock (_gate)
        {
            var taken = _reads;
            _reads = new Dictionary<string, ReadCount>(StringComparer.Ordinal);
            return taken;
        }
    }

    public override async ValueTask<int> ReadAsync(string key, long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        var count = await base.ReadAsync(key, offset, destination, cancellationToken);
        lock (_gate)
        {
            var (requests, bytes) = _reads.GetValueOrDefault(key);
            _reads[key] = new ReadCount(requests + 1, bytes + count);
        }
        return count;
    }
}
