using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog;

/// <summary>Bytes of a recovery point that a damage took. An empty stream: the point as a whole.</summary>
public readonly record struct DamagedRangeRow(Id16 PointId, Id16 VmId, Id16 StreamId, long Offset, long Length, bool IsDoubtful);

/// <summary>A damaged object. Times are Unix milliseconds; <paramref name="HealedMs"/> 0: it is open.</summary>
/// <param name="Number">The order in which damages were found; 0 before it is stored.</param>
/// <param name="Ranges">What it took when it was found; at most <see cref="DamageRecords.RangesMax"/>.</param>
/// <param name="RangesCut">There were more.</param>
public sealed record DamageRow(
    long Number, string ObjectKey, string Problem, long FoundMs, long HealedMs, IReadOnlyList<DamagedRangeRow> Ranges, bool RangesCut);

/// <summary>What the last whole cycle of the scrub came to. Times are Unix milliseconds; 0: never.</summary>
/// <param name="FinishedMs">When no pack was due the last time.</param>
/// <param name="ObjectsMs">When everything but packs was checked the last time.</param>
/// <param name="Bytes">Read in that cycle.</param>
/// <param name="Damages">Found in that cycle.</param>
public sealed record ScrubCycleRow(long FinishedMs, long ObjectsMs, long Bytes, long Damages);

/// <summary>Every damage that was ever found, until when it lasted; an object has one open damage at most.</summary>
public sealed class DamageRecords(IDatabase database)
{
    /// <summary>Of one damage.</summary>
    public const int RangesMax = 100;

    private const string Columns = "number, object, problem, found_ms, healed_ms, ranges_cut";

    /// <summary>Notes damages that are open; one whose object is listed as open keeps when it was found.</summary>
    /// <returns>Those that are new.</returns>
    public ValueTask<List<DamageRow>> OpenAsync(IReadOnlyCollection<DamageRow> found, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                var added = new List<DamageRow>();
                using var find = connection.Prepare("SELECT number FROM damage WHERE object = ?1 AND healed_ms = 0");
                using var insert = connection.Prepare(
                    "INSERT INTO damage (object, problem, found_ms, healed_ms, ranges_cut) VALUES (?1, ?2, ?3, 0, ?4) RETURNING number");
                foreach (var row in found)
                {
                    var isKnown = find.Bind(1, row.ObjectKey).Step();
                    find.Reset();
                    if (isKnown)
                    {
                        continue;
                    }
                    insert.Bind(1, row.ObjectKey).Bind(2, row.Problem).Bind(3, row.FoundMs)
                        .Bind(4, row.RangesCut || row.Ranges.Count > RangesMax ? 1 : 0);
                    Check.That(insert.Step());
                    var number = insert.GetInt64(0);
                    insert.Reset();
                    AddRanges(connection, number, row.Ranges);
                    added.Add(row with { Number = number });
                }
                return added;
            },
            cancellationToken);

    /// <summary>Notes that the damages of these objects are over.</summary>
    public ValueTask CloseAsync(IReadOnlyCollection<DamageRow> healed, long nowMs, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var update = connection.Prepare("UPDATE damage SET healed_ms = ?2 WHERE number = ?1 AND healed_ms = 0");
                foreach (var row in healed)
                {
                    update.Bind(1, row.Number).Bind(2, Math.Max(1, nowMs)).Execute();
                }
            },
            cancellationToken);

    /// <summary>Whether a damage of the object is listed that was open at that time or later.</summary>
    public ValueTask<bool> IsListedAsync(string objectKey, long sinceMs, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare("SELECT 1 FROM damage WHERE object = ?1 AND (healed_ms = 0 OR healed_ms >= ?2) LIMIT 1");
                return statement.Bind(1, objectKey).Bind(2, sinceMs).Step();
            },
            cancellationToken);

    /// <summary>All open damages, without their ranges.</summary>
    public ValueTask<List<DamageRow>> ListOpenAsync(CancellationToken cancellationToken) =>
        database.ReadAsync(
            static connection =>
            {
                using var statement = connection.Prepare($"SELECT {Columns} FROM damage WHERE healed_ms = 0 ORDER BY number");
                var rows = new List<DamageRow>();
                while (statement.Step())
                {
                    rows.Add(Read(statement));
                }
                return rows;
            },
            cancellationToken);

    /// <summary>Damages, the newest first, with their ranges, beginning below <paramref name="before"/>.</summary>
    public ValueTask<List<DamageRow>> ListAsync(bool includeHealed, long? before, int countMax, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare($"SELECT {Columns} FROM damage WHERE number < ?1 AND (healed_ms = 0 OR ?2 = 1) ORDER BY number DESC LIMIT ?3");
                statement.Bind(1, before ?? long.MaxValue).Bind(2, includeHealed ? 1 : 0).Bind(3, countMax);
                var rows = new List<DamageRow>();
                while (statement.Step())
                {
                    rows.Add(Read(statement));
                }
                return rows.ConvertAll(row => row with { Ranges = ReadRanges(connection, row.Number) });
            },
            cancellationToken);

    public ValueTask<long> CountOpenAsync(CancellationToken cancellationToken) =>
        database.ReadAsync(
            static connection =>
            {
                using var statement = connection.Prepare("SELECT count(*) FROM damage WHERE healed_ms = 0");
                return statement.Step() ? statement.GetInt64(0) : 0;
            },
            cancellationToken);

    public ValueTask<ScrubCycleRow> ReadCycleAsync(CancellationToken cancellationToken) =>
        database.ReadAsync(
            static connection =>
            {
                using var statement = connection.Prepare("SELECT finished_ms, objects_ms, bytes, damages FROM scrub_cycle WHERE id = 1");
                return statement.Step()
                    ? new ScrubCycleRow(statement.GetInt64(0), statement.GetInt64(1), statement.GetInt64(2), statement.GetInt64(3))
                    : new ScrubCycleRow(0, 0, 0, 0);
            },
            cancellationToken);

    public ValueTask SaveCycleAsync(ScrubCycleRow row, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare(
                    """
                    INSERT INTO scrub_cycle (id, finished_ms, objects_ms, bytes, damages) VALUES (1, ?1, ?2, ?3, ?4)
                    ON CONFLICT (id) DO UPDATE SET finished_ms = ?1, objects_ms = ?2, bytes = ?3, damages = ?4
                    """);
                statement.Bind(1, row.FinishedMs).Bind(2, row.ObjectsMs).Bind(3, row.Bytes).Bind(4, row.Damages).Execute();
            },
            cancellationToken);

    private static void AddRanges(ISqlConnection connection, long number, IReadOnlyList<DamagedRangeRow> ranges)
    {
        using var insert = connection.Prepare(
            "INSERT INTO damage_range (number, position, point_id, vm_id, stream_id, offset_bytes, length_bytes, doubtful) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
        insert.Bind(1, number);
        for (var i = 0; i < Math.Min(ranges.Count, RangesMax); i++)
        {
            var range = ranges[i];
            insert.Bind(2, i).Bind(3, range.PointId).Bind(4, range.VmId).Bind(5, range.StreamId).Bind(6, range.Offset).Bind(7, range.Length)
                .Bind(8, range.IsDoubtful ? 1 : 0).Execute();
        }
    }

    private static List<DamagedRangeRow> ReadRanges(ISqlConnection connection, long number)
    {
        using var statement = connection.Prepare(
            "SELECT point_id, vm_id, stream_id, offset_bytes, length_bytes, doubtful FROM damage_range WHERE number = ?1 ORDER BY position");
        statement.Bind(1, number);
        var ranges = new List<DamagedRangeRow>();
        while (statement.Step())
        {
            ranges.Add(new DamagedRangeRow(
                statement.GetId16(0), statement.GetId16(1), statement.GetId16(2), statement.GetInt64(3), statement.GetInt64(4), statement.GetInt64(5) != 0));
        }
        return ranges;
    }

    private static DamageRow Read(IStatement row) => new(
        row.GetInt64(0), row.GetString(1)!, row.GetString(2)!, row.GetInt64(3), row.GetInt64(4), [], row.GetInt64(5) != 0);
}
