using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Records;

namespace VirtBackup.Repository.Index;

/// <summary>A pack as the index knows it. Times are Unix milliseconds, lengths bytes.</summary>
internal sealed record PackRow(
    long Number, Id32 Hash, RecordKind Kind, long Records, long Bytes, PackState State, long StateMs, long CreatedMs, long DeadRecords, long DeadBytes);

/// <summary>What the index notes of a pack's content. Lengths are bytes.</summary>
internal readonly record struct PackSummary(Id32 Hash, RecordKind Kind, int Records, long Bytes, long RawBytes);

/// <summary>Statements on packs. Each method runs inside a transaction of the caller.</summary>
internal static class PackTable
{
    private const string Columns = "number, hash, kind, records, bytes, state, state_ms, created_ms, dead_records, dead_bytes";

    public static PackRow? Find(ISqlConnection connection, Id32 hash)
    {
        using var statement = connection.Prepare($"SELECT {Columns} FROM pack WHERE hash = ?1");
        return statement.Bind(1, hash).Step() ? Read(statement) : null;
    }

    public static PackRow? Find(ISqlConnection connection, long number)
    {
        using var statement = connection.Prepare($"SELECT {Columns} FROM pack WHERE number = ?1");
        return statement.Bind(1, number).Step() ? Read(statement) : null;
    }

    public static Id32? FindHash(ISqlConnection connection, long number)
    {
        using var statement = connection.Prepare("SELECT hash FROM pack WHERE number = ?1");
        return statement.Bind(1, number).Step() ? statement.GetId32(0) : null;
    }

    public static long CountLive(ISqlConnection connection)
    {
        using var statement = connection.Prepare("SELECT (SELECT count(*) FROM pack) - (SELECT count(*) FROM pack WHERE state > 0)");
        return statement.Step() ? statement.GetInt64(0) : 0;
    }

    /// <summary>Adds a live pack and returns its number.</summary>
    public static long Add(ISqlConnection connection, StoredPack pack, long generation, long createdMs)
    {
        long raw = 0;
        foreach (ref readonly var entry in pack.Entries.AsSpan())
        {
            raw += entry.Header.RawLength;
        }
        return Add(connection, new PackSummary(pack.Hash, pack.Kind, pack.Entries.Length, pack.Bytes, raw), generation, createdMs);
    }

    /// <summary>Adds a live pack and returns its number.</summary>
    public static long Add(ISqlConnection connection, in PackSummary pack, long generation, long createdMs)
    {
        using var statement = connection.Prepare(
            """
            INSERT INTO pack(hash, kind, records, bytes, raw_bytes, state, state_ms, generation, created_ms, checked_ms, dead_records, dead_bytes)
            VALUES (?1, ?2, ?3, ?4, ?5, 0, ?7, ?6, ?7, 0, 0, 0) RETURNING number
            """);
        statement.Bind(1, pack.Hash).Bind(2, (long)pack.Kind).Bind(3, pack.Records).Bind(4, pack.Bytes).Bind(5, pack.RawBytes)
            .Bind(6, generation).Bind(7, createdMs);
        Check.That(statement.Step());
        var number = statement.GetInt64(0);
        statement.Step();
        return number;
    }

    /// <summary>The pack was stored again: its records are as young as that.</summary>
    public static void Renew(ISqlConnection connection, long number, long createdMs)
    {
        using var statement = connection.Prepare("UPDATE pack SET created_ms = ?2 WHERE number = ?1 AND created_ms < ?2");
        statement.Bind(1, number).Bind(2, createdMs).Execute();
    }

    /// <summary>Notes that records of the pack have no row any more.</summary>
    public static void AddDead(ISqlConnection connection, long number, long records, long bytes)
    {
        using var statement = connection.Prepare("UPDATE pack SET dead_records = dead_records + ?2, dead_bytes = dead_bytes + ?3 WHERE number = ?1");
        Check.That(statement.Bind(1, number).Bind(2, records).Bind(3, bytes).Execute() == 1);
    }

    public static void Remove(ISqlConnection connection, long number)
    {
        using var statement = connection.Prepare("DELETE FROM pack WHERE number = ?1");
        statement.Bind(1, number).Execute();
    }

    /// <summary>Numbers of live packs that are dead to so many percent of their bytes and hold something alive, ascending.</summary>
    public static List<long> ListToRepack(ISqlConnection connection, int deadPercent)
    {
        using var statement = connection.Prepare(
            "SELECT number FROM pack WHERE dead_records > 0 AND dead_records < records AND state = 0 AND dead_bytes * 100 / bytes >= ?1");
        statement.Bind(1, deadPercent);
        var numbers = new List<long>();
        while (statement.Step())
        {
            numbers.Add(statement.GetInt64(0));
        }
        // Asked for the order, SQLite would rather look at all packs in their order.
        numbers.Sort();
        return numbers;
    }

    /// <summary>Live packs without anything alive, by number, beginning behind <paramref name="after"/>.</summary>
    public static List<PackRow> ListDead(ISqlConnection connection, long after, int countMax)
    {
        using var statement = connection.Prepare(
            $"SELECT {Columns} FROM pack WHERE dead_records = records AND state = 0 AND number > ?1 ORDER BY number LIMIT ?2");
        return ReadAll(statement.Bind(1, after).Bind(2, countMax));
    }

    /// <summary>Packs in the trash, by number, beginning behind <paramref name="after"/>.</summary>
    public static List<PackRow> ListTrash(ISqlConnection connection, long after, int countMax)
    {
        using var statement = connection.Prepare($"SELECT {Columns} FROM pack WHERE state > 0 AND number > ?1 ORDER BY number LIMIT ?2");
        return ReadAll(statement.Bind(1, after).Bind(2, countMax));
    }

    /// <summary>Moves a live pack without live records to the trash; false when it has some, or is not live.</summary>
    public static bool TryTrash(ISqlConnection connection, long number, long nowMs)
    {
        using var statement = connection.Prepare(
            "UPDATE pack SET state = 1, state_ms = ?2 WHERE number = ?1 AND state = 0 AND dead_records = records");
        return statement.Bind(1, number).Bind(2, nowMs).Execute() == 1;
    }

    /// <summary>The live pack behind (<paramref name="afterMs"/>, <paramref name="afterNumber"/>) whose proof is the oldest, if it is older than <paramref name="beforeMs"/>.</summary>
    public static PackRow? FindNextToCheck(ISqlConnection connection, long afterMs, long afterNumber, long beforeMs, out long checkedMs)
    {
        using var statement = connection.Prepare(
            $"SELECT {Columns}, checked_ms FROM pack WHERE state = 0 AND (checked_ms, number) > (?1, ?2) AND checked_ms < ?3 ORDER BY checked_ms, number LIMIT 1");
        var found = statement.Bind(1, afterMs).Bind(2, afterNumber).Bind(3, beforeMs).Step();
        checkedMs = found ? statement.GetInt64(10) : 0;
        return found ? Read(statement) : null;
    }

    /// <summary>The pack was read whole and found sound.</summary>
    public static void SetProven(ISqlConnection connection, long number, long nowMs)
    {
        using var statement = connection.Prepare("UPDATE pack SET checked_ms = ?2, unreadable_ms = 0 WHERE number = ?1");
        statement.Bind(1, number).Bind(2, nowMs).Execute();
    }

    /// <summary>The pack could not be read now, and is the next to be read; since when it cannot, Unix milliseconds.</summary>
    public static long NoteUnreadable(ISqlConnection connection, long number, long nowMs)
    {
        using var statement = connection.Prepare(
            "UPDATE pack SET checked_ms = 0, unreadable_ms = CASE WHEN unreadable_ms BETWEEN 1 AND ?2 THEN unreadable_ms ELSE ?2 END WHERE number = ?1 RETURNING unreadable_ms");
        return statement.Bind(1, number).Bind(2, nowMs).Step() ? statement.GetInt64(0) : nowMs;
    }

    /// <summary>The smallest live packs of one kind that hold something alive, but for one.</summary>
    public static List<PackRow> ListSmallest(ISqlConnection connection, RecordKind kind, long except, int countMax)
    {
        using var statement = connection.Prepare(
            $"SELECT {Columns} FROM pack WHERE state = 0 AND kind = ?1 AND number <> ?2 AND dead_records < records ORDER BY bytes LIMIT ?3");
        return ReadAll(statement.Bind(1, (long)kind).Bind(2, except).Bind(3, countMax));
    }

    /// <summary>When the pack is read next follows from it.</summary>
    /// <param name="connection">Of a write.</param>
    /// <param name="number">Of a pack; nothing happens when it is gone.</param>
    /// <param name="nowMs">When it was handled, Unix milliseconds; 0: it is the next to be read.</param>
    public static void SetChecked(ISqlConnection connection, long number, long nowMs)
    {
        using var statement = connection.Prepare("UPDATE pack SET checked_ms = ?2 WHERE number = ?1");
        statement.Bind(1, number).Bind(2, nowMs).Execute();
    }

    /// <summary>A proof that was given later than now was not given.</summary>
    public static void ForgetProofsAfter(ISqlConnection connection, long nowMs)
    {
        using var statement = connection.Prepare("UPDATE pack SET checked_ms = 0 WHERE state = 0 AND checked_ms > ?1");
        statement.Bind(1, nowMs).Execute();
    }

    /// <summary>Bytes of live packs whose proof is older than that.</summary>
    public static (long Packs, long Bytes) SumCheckedBefore(ISqlConnection connection, long beforeMs)
    {
        using var statement = connection.Prepare("SELECT count(*), sum(bytes) FROM pack WHERE state = 0 AND checked_ms < ?1");
        return statement.Bind(1, beforeMs).Step() ? (statement.GetInt64(0), statement.GetInt64(1)) : default;
    }

    /// <summary>Bytes of live packs with records in doubt that were handled since then.</summary>
    public static long SumDoubtful(ISqlConnection connection, long sinceMs)
    {
        using var statement = connection.Prepare(
            "SELECT sum(bytes) FROM pack WHERE state = 0 AND checked_ms >= ?1 AND number IN (SELECT -pack FROM object WHERE pack <= 0 AND pack < 0)");
        return statement.Bind(1, sinceMs).Step() && !statement.IsNull(0) ? statement.GetInt64(0) : 0;
    }

    /// <summary>The proof of a live pack, Unix milliseconds; 0: it was never checked; null: there is no such pack.</summary>
    public static long? FindProof(ISqlConnection connection, Id32 hash)
    {
        using var statement = connection.Prepare("SELECT checked_ms FROM pack WHERE hash = ?1 AND state = 0");
        return statement.Bind(1, hash).Step() ? statement.GetInt64(0) : null;
    }

    /// <summary>The oldest proof of a live pack, Unix milliseconds; 0: one was never checked; null: there is none.</summary>
    public static long? FindOldestProof(ISqlConnection connection)
    {
        using var statement = connection.Prepare("SELECT min(checked_ms) FROM pack WHERE state = 0");
        return statement.Step() && !statement.IsNull(0) ? statement.GetInt64(0) : null;
    }

    /// <summary>Live packs of one kind, by number, beginning behind <paramref name="after"/>.</summary>
    public static List<PackRow> ListLive(ISqlConnection connection, RecordKind kind, long after, int countMax)
    {
        using var statement = connection.Prepare($"SELECT {Columns} FROM pack WHERE state = 0 AND kind = ?3 AND number > ?1 ORDER BY number LIMIT ?2");
        return ReadAll(statement.Bind(1, after).Bind(2, countMax).Bind(3, (long)kind));
    }

    private static List<PackRow> ReadAll(IStatement statement)
    {
        var rows = new List<PackRow>();
        while (statement.Step())
        {
            rows.Add(Read(statement));
        }
        return rows;
    }

    private static PackRow Read(IStatement row) => new(
        row.GetInt64(0), row.GetId32(1), (RecordKind)row.GetInt64(2), row.GetInt64(3), row.GetInt64(4), (PackState)row.GetInt64(5), row.GetInt64(6),
        row.GetInt64(7), row.GetInt64(8), row.GetInt64(9));
}
