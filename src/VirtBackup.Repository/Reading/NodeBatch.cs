using System.Buffers;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Reading;

/// <summary>Reads map nodes that lie near each other together. Every node is checked against its id.</summary>
internal sealed class NodeBatch(IObjectStore store, IDatabase index)
{
    /// <summary>A gap of up to this many bytes, some dozens of nodes, is cheaper to read than to skip.</summary>
    private const int GapBytesMax = 256 << 10;

    private readonly IObjectStore _near = store.Near;

    /// <summary>Hands out what it can read, in no order; whoever misses a node has to ask for it alone, and hears what is wrong.</summary>
    /// <param name="ids">Distinct.</param>
    /// <param name="bytesMax">The first ones that have so many bytes together, and at least one.</param>
    /// <param name="found">Told of each node once.</param>
    /// <param name="cancellationToken">Stops between reads.</param>
    public async ValueTask ReadAsync(IReadOnlyList<Id32> ids, int bytesMax, Action<Id32, byte[]> found, CancellationToken cancellationToken)
    {
        var places = await LocateAsync(ids, bytesMax, cancellationToken);
        places.Sort(static (left, right) => (left.Location.Pack, left.Location.Position).CompareTo((right.Location.Pack, right.Location.Position)));
        for (var first = 0; first < places.Count;)
        {
            var count = CountTogether(places, first);
            try
            {
                await ReadAsync(places, first, count, found, cancellationToken);
            }
            catch (FaultException fault) when (fault.Reason is FaultReason.NotFound or FaultReason.Corrupt or FaultReason.Malformed or FaultReason.Unsupported or FaultReason.Unavailable)
            {
                // There may be another copy.
            }
            first += count;
        }
    }

    private async ValueTask ReadAsync(List<Place> places, int first, int count, Action<Id32, byte[]> found, CancellationToken cancellationToken)
    {
        var start = places[first].Location.Position;
        var length = (int)(places[first + count - 1].Location.End - start);
        var buffer = ArrayPool<byte>.Shared.Rent(length);
        try
        {
            await _near.ReadExactlyAsync(places[first].Key, start, buffer.AsMemory(0, length), cancellationToken);
            foreach (var place in places.GetRange(first, count))
            {
                var record = buffer.AsSpan((int)(place.Location.Position - start), place.Location.RecordLength);
                found(place.Id, NodeReader.Parse(place.Id, place.Key, place.Location, record));
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    private static int CountTogether(List<Place> places, int first)
    {
        var (start, count) = (places[first].Location, 1);
        for (var end = start.End; first + count < places.Count; count++)
        {
            var following = places[first + count].Location;
            if (following.Pack != start.Pack || following.Position - end > GapBytesMax || following.End - start.Position > PackReader.ReadBytes)
            {
                break;
            }
            end = following.End;
        }
        return count;
    }

    private ValueTask<List<Place>> LocateAsync(IReadOnlyList<Id32> ids, int bytesMax, CancellationToken cancellationToken) =>
        index.ReadAsync(
            connection =>
            {
                var places = new List<Place>(ids.Count);
                if (ObjectTable.FindScope(connection, Id16.Empty) is not { } scope)
                {
                    return places;
                }
                var keys = new Dictionary<long, string>();
                var locations = new List<ObjectLocation>();
                long bytes = 0;
                foreach (var id in ids)
                {
                    locations.Clear();
                    ObjectTable.FindLocations(connection, RecordKind.Map, scope, id, locations);
                    if (locations.Count == 0)
                    {
                        continue;
                    }
                    var location = locations.MinBy(static candidate => (candidate.IsDoubtful, -candidate.Pack));
                    bytes += location.RecordLength;
                    if (bytes > bytesMax && places.Count > 0)
                    {
                        break;
                    }
                    if (!keys.TryGetValue(location.Pack, out var key) && PackTable.FindHash(connection, location.Pack) is { } hash)
                    {
                        keys.Add(location.Pack, key = ObjectKeys.Pack(hash));
                    }
                    if (key is not null)
                    {
                        places.Add(new Place(id, key, location));
                    }
                }
                return places;
            },
            cancellationToken);

    private readonly record struct Place(Id32 Id, string Key, ObjectLocation Location);
}
