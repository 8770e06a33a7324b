using VirtBackup.Core;

namespace VirtBackup.Cli.Analysis;

/// <summary>
/// Different chunks and what they come to. Memory is bounded: when too many are known, half of all names stop to count and
/// the sums of the others are scaled up, so that sums become estimates. Not safe for concurrent use.
/// </summary>
/// <param name="entriesMax">Chunks known at once, at most.</param>
internal sealed class DistinctChunks(int entriesMax = DistinctChunks.DefaultEntriesMax)
{
    /// <summary>Exact up to 64 GiB of different chunks of 64 KiB.</summary>
    public const int DefaultEntriesMax = 1 << 20;

    private readonly Dictionary<ulong, (int Raw, int Stored)> _chunks = [];
    private int _halvings;

    /// <summary>Whether the sums are estimates.</summary>
    public bool IsEstimate => _halvings > 0;

    public ulong Count => (ulong)_chunks.Count << _halvings;

    /// <summary>Bytes of the different chunks.</summary>
    public ulong RawBytes => Sum(static chunk => chunk.Raw) << _halvings;

    /// <summary>The same, compressed and sealed.</summary>
    public ulong StoredBytes => Sum(static chunk => chunk.Stored) << _halvings;

    /// <summary>True when the chunk is new and counts: the caller tells then what it takes to store it.</summary>
    /// <param name="id">A keyed hash: its bits are evenly spread.</param>
    /// <param name="rawBytes">Length of the chunk.</param>
    public bool TryAdd(Id32 id, int rawBytes)
    {
        var name = NameOf(id);
        if (!IsInSample(name) || !_chunks.TryAdd(name, (rawBytes, 0)))
        {
            return false;
        }
        while (_chunks.Count > entriesMax)
        {
            _halvings++;
            foreach (var other in _chunks.Keys.Where(other => !IsInSample(other)).ToList())
            {
                _chunks.Remove(other);
            }
        }
        return _chunks.ContainsKey(name);
    }

    /// <summary>What a chunk takes that <see cref="TryAdd"/> accepted.</summary>
    public void SetStored(Id32 id, int storedBytes)
    {
        var name = NameOf(id);
        if (_chunks.TryGetValue(name, out var chunk))
        {
            _chunks[name] = chunk with { Stored = storedBytes };
        }
    }

    // 64 bits: among the chunks known at once, an accident has a probability below 2^-24.
    private static ulong NameOf(Id32 id) => id.Leading;

    private bool IsInSample(ulong name) => (name & ((1UL << _halvings) - 1)) == 0;

    private ulong Sum(Func<(int Raw, int Stored), int> of) => _chunks.Values.Aggregate(0UL, (sum, chunk) => sum + (ulong)of(chunk));
}
