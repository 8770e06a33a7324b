using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Sealing;
using ByteRange = VirtBackup.Protocol.Store.V1.ByteRange;

namespace VirtBackup.Agent.Restore;

/// <summary>
/// The chunks of a few neighbouring leaves while they are fetched: which chunk goes to which places, and what is still
/// missing. Each chunk's secret is proven to belong to its id before anything is asked for. Safe for concurrent use.
/// </summary>
internal sealed class RestoreWindow
{
    /// <summary>Chunks in one window: as many as one request may have ranges. Many, so that the controller reads much of each pack at once.</summary>
    public const int ChunksMax = 4096;

    /// <summary>Bytes of one window: the most that one request may ask for.</summary>
    public const long BytesMax = 1L << 30;

    private readonly Lock _gate = new();
    private readonly Dictionary<Id32, ChunkPlaces> _missing = [];
    private readonly HashSet<Id32> _taken = [];

    public int ChunkCount { get; private set; }

    public long ByteCount { get; private set; }

    public int MissingCount
    {
        get
        {
            lock (_gate)
            {
                return _missing.Count;
            }
        }
    }

    /// <param name="wanted">Which entries; null: all that are not zero.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.Corrupt"/>: an entry does not open with its epoch's key.</exception>
    /// <param name="countMax">No more chunks than these are added, zeros not counted.</param>
    public void Add(MapLeaf leaf, long offset, IReadOnlyDictionary<Id16, VmKey> keys, bool[]? wanted = null, int countMax = int.MaxValue)
    {
        for (var i = 0; i < leaf.Count && countMax > 0; i++)
        {
            var entry = leaf[i];
            if (!entry.IsZero && wanted?[i] != false)
            {
                countMax--;
                if (!_missing.TryGetValue(entry.Id, out var places))
                {
                    if (!keys.TryGetValue(entry.EpochId, out var key))
                    {
                        throw FaultException.Corrupt($"The map names key epoch {entry.EpochId}, which the recovery point does not list.");
                    }
                    _missing.Add(entry.Id, places = new ChunkPlaces(entry.Id, key.Unmask(entry.Id, entry.MaskedSecret), entry.Length));
                }
                if (places.Length != entry.Length)
                {
                    throw FaultException.Corrupt($"The map gives chunk {entry.Id} two different lengths.");
                }
                places.Offsets.Add(offset);
                ChunkCount++;
                ByteCount += entry.Length;
            }
            offset += entry.Length;
        }
    }

    /// <summary>The byte ranges whose chunks are still missing, ascending and merged.</summary>
    public IEnumerable<ByteRange> ListMissingRanges()
    {
        (long Offset, int Length)[] places;
        lock (_gate)
        {
            places = [.. _missing.Values.Select(chunk => (chunk.Offsets[0], chunk.Length)).Order()];
        }
        ulong start = 0;
        ulong end = 0;
        foreach (var (offset, length) in places)
        {
            if ((ulong)offset != end)
            {
                if (end > start)
                {
                    yield return new ByteRange { Offset = start, Length = end - start };
                }
                start = (ulong)offset;
            }
            end = (ulong)(offset + length);
        }
        if (end > start)
        {
            yield return new ByteRange { Offset = start, Length = end - start };
        }
    }

    /// <summary>Takes a chunk to be written; null when it is not (or no longer) wanted.</summary>
    public ChunkPlaces? Take(Id32 id)
    {
        lock (_gate)
        {
            return _missing.TryGetValue(id, out var places) && _taken.Add(id) ? places : null;
        }
    }

    /// <summary>A taken chunk was written everywhere.</summary>
    public void Finish(Id32 id)
    {
        lock (_gate)
        {
            _missing.Remove(id);
        }
    }

    /// <summary>Before a new request: chunks that were taken but not finished are wanted again.</summary>
    public void Retake()
    {
        lock (_gate)
        {
            _taken.Clear();
        }
    }
}

/// <summary>A chunk and every place of the stream that holds it.</summary>
internal sealed record ChunkPlaces(Id32 Id, ChunkSecret Secret, int Length)
{
    public List<long> Offsets { get; } = [];
}
