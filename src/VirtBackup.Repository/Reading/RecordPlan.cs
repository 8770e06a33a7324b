using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Reading;

/// <summary>A chunk that is to be read: its id and its length as the map states it, bytes.</summary>
internal readonly record struct WantedChunk(Id32 Id, int RawLength);

/// <summary>Where a wanted record lies.</summary>
internal readonly record struct PlannedRecord(WantedChunk Chunk, ObjectLocation Location);

/// <summary>The records of one read plan in pack order, and the names of their packs.</summary>
internal sealed class RecordPlan
{
    private readonly Dictionary<long, string> _packs;

    private RecordPlan(List<PlannedRecord> records, Dictionary<long, string> packs)
    {
        Records = records;
        _packs = packs;
    }

    /// <summary>By pack, then offset.</summary>
    public IReadOnlyList<PlannedRecord> Records { get; }

    public string PackKey(long pack) => _packs[pack];

    /// <param name="index">Where to look.</param>
    /// <param name="point">Whose chunks they are, for messages.</param>
    /// <param name="scope">Of the chunks.</param>
    /// <param name="chunks">Distinct chunks.</param>
    /// <param name="cancellationToken">Stops the look-ups.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.Corrupt"/>: a chunk is not in the repository.</exception>
    public static ValueTask<RecordPlan> MakeAsync(
        IDatabase index, Id16 point, Id16 scope, IReadOnlyCollection<WantedChunk> chunks, CancellationToken cancellationToken) =>
        index.ReadAsync(
            connection =>
            {
                var records = new List<PlannedRecord>(chunks.Count);
                var packs = new Dictionary<long, string>();
                var locations = new List<ObjectLocation>();
                var scopeNumber = ObjectTable.FindScope(connection, scope);
                foreach (var chunk in chunks)
                {
                    locations.Clear();
                    if (scopeNumber is { } number)
                    {
                        ObjectTable.FindLocations(connection, RecordKind.Data, number, chunk.Id, locations);
                    }
                    records.Add(new PlannedRecord(chunk, Choose(point, chunk, locations)));
                }
                records.Sort(static (left, right) =>
                    (left.Location.Pack, left.Location.Position).CompareTo((right.Location.Pack, right.Location.Position)));
                foreach (var record in records)
                {
                    if (!packs.ContainsKey(record.Location.Pack))
                    {
                        var hash = PackTable.FindHash(connection, record.Location.Pack)
                            ?? throw FaultException.Corrupt($"The repository's index lacks the pack {record.Location.Pack}: rebuild the index.");
                        packs.Add(record.Location.Pack, ObjectKeys.Pack(hash));
                    }
                }
                return new RecordPlan(records, packs);
            },
            cancellationToken);

    /// <summary>The latest copy of the right length that is not in doubt: later packs lie in the order of later points.</summary>
    private static ObjectLocation Choose(Id16 point, WantedChunk chunk, List<ObjectLocation> locations)
    {
        ObjectLocation? best = null;
        foreach (var location in locations)
        {
            if (location.RawLength == chunk.RawLength && (best is not { } other || (other.IsDoubtful, location.Pack).CompareTo((location.IsDoubtful, other.Pack)) > 0))
            {
                best = location;
            }
        }
        return best ?? throw FaultException.Corrupt($"The recovery point {point} is damaged: its chunk {chunk.Id} is lost. 'virtbackup recovery-point show' tells which ranges that takes; a full backup of a machine that still has the block heals it.");
    }
}
