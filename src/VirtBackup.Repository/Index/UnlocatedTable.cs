using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Records;

namespace VirtBackup.Repository.Index;

/// <summary>The order of rows without a location: 0 or the negative number of the doubtful pack, position, id.</summary>
internal readonly record struct UnlocatedName(long Pack, long Position, Id32 Id)
{
    public static UnlocatedName First { get; } = new(long.MinValue, 0, Id32.Zero);
}

/// <summary>
/// Rows of records that have no sound location: in quarantine (pack 0), or in doubt (the negative number of a pack that is
/// damaged somewhere). They keep their counts, and nothing new relies on them. Each method runs inside a transaction of the
/// caller.
/// </summary>
internal static class UnlocatedTable
{
    /// <summary>The record has a sound location again: rows without one go. False when there was none.</summary>
    public static bool Settle(ISqlConnection connection, RecordKind kind, Id32 id, long scope)
    {
        using var statement = connection.Prepare("DELETE FROM object WHERE id = ?1 AND kind = ?2 AND scope = ?3 AND pack <= 0 RETURNING pack, sealed_length");
        statement.Bind(1, id).Bind(2, (long)kind).Bind(3, scope);
        return CountDead(connection, statement);
    }

    /// <summary>The record of this pack is gone. True: it was the last one of an object that is needed, and is in quarantine now.</summary>
    public static bool Quarantine(ISqlConnection connection, in RecordHeader header, long pack) => Disown(connection, header, pack, isLost: true);

    /// <summary>Nobody knows whether the record of this pack is sound; it stays beside others. True: there is no other.</summary>
    public static bool Doubt(ISqlConnection connection, in RecordHeader header, long pack) => Disown(connection, header, pack, isLost: false);

    /// <summary>The pack is sound after all. False: nothing of it was in doubt.</summary>
    public static bool ClearDoubt(ISqlConnection connection, long pack)
    {
        using var statement = connection.Prepare("UPDATE object SET pack = ?1 WHERE pack <= 0 AND pack = -?1");
        return statement.Bind(1, pack).Execute() > 0;
    }

    /// <summary>Puts what is in doubt in a pack, and has no other copy, into quarantine; false: nothing is in doubt.</summary>
    public static bool TryGiveUp(ISqlConnection connection, long pack)
    {
        using var drop = connection.Prepare(
            """
            DELETE FROM object WHERE pack <= 0 AND pack = -?1 AND EXISTS (
                SELECT 1 FROM object other WHERE other.id = object.id AND other.kind = object.kind AND other.scope = object.scope AND other.pack <> object.pack)
            """);
        var dropped = drop.Bind(1, pack).Execute();
        using var statement = connection.Prepare("UPDATE object SET pack = 0, position = ?1 WHERE pack <= 0 AND pack = -?1");
        return statement.Bind(1, pack).Execute() + dropped > 0;
    }

    /// <summary>Records without a sound location, behind <paramref name="after"/>, in its order.</summary>
    public static List<(IndexedRecord Record, UnlocatedName Name)> List(ISqlConnection connection, UnlocatedName after, int countMax)
    {
        using var statement = connection.Prepare(
            """
            SELECT o.kind, o.codec, o.raw_length, o.sealed_length, o.id, s.id, o.id_generation, o.position, o.count, o.pack
            FROM object o JOIN scope s ON s.number = o.scope
            WHERE o.pack <= 0 AND (o.pack, o.position, o.id) > (?1, ?2, ?3) ORDER BY o.pack, o.position, o.id LIMIT ?4
            """);
        statement.Bind(1, after.Pack).Bind(2, after.Position).Bind(3, after.Id).Bind(4, countMax);
        var records = new List<(IndexedRecord, UnlocatedName)>();
        while (statement.Step())
        {
            records.Add((PackRecords.Read(statement), new UnlocatedName(statement.GetInt64(9), statement.GetInt64(7), statement.GetId32(4))));
        }
        return records;
    }

    /// <summary>Quarantined and doubtful records whose last copy lay in that pack.</summary>
    public static (long Lost, long Doubtful) Count(ISqlConnection connection, long pack)
    {
        using var statement = connection.Prepare(
            """
            SELECT (SELECT count(*) FROM object WHERE pack <= 0 AND pack = 0 AND position = ?1),
                   (SELECT count(*) FROM object WHERE pack <= 0 AND pack = -?1)
            """);
        return statement.Bind(1, pack).Step() ? (statement.GetInt64(0), statement.GetInt64(1)) : default;
    }

    /// <summary>Whether anything is in quarantine or in doubt.</summary>
    public static bool HasAny(ISqlConnection connection)
    {
        using var statement = connection.Prepare("SELECT 1 FROM object WHERE pack <= 0 LIMIT 1");
        return statement.Step();
    }

    /// <summary>Doubtful packs are the next to be read: what could not be opened before may be now.</summary>
    public static void CheckDoubtfulSoon(ISqlConnection connection)
    {
        using var statement = connection.Prepare("UPDATE pack SET checked_ms = 0 WHERE number IN (SELECT -pack FROM object WHERE pack <= 0 AND pack < 0)");
        statement.Execute();
    }

    /// <summary>Removes what nothing refers to: there is nothing to keep of it.</summary>
    public static long RemoveUnneeded(ISqlConnection connection)
    {
        using var statement = connection.Prepare(
            "DELETE FROM object WHERE pack <= 0 AND count = 0 AND holds = 0 RETURNING pack, sealed_length");
        var removed = new List<(long Pack, long Bytes)>();
        while (statement.Step())
        {
            removed.Add((statement.GetInt64(0), RecordHeader.Size + statement.GetInt64(1)));
        }
        foreach (var (pack, bytes) in removed.Where(static row => row.Pack < 0))
        {
            PackTable.AddDead(connection, -pack, 1, bytes);
        }
        return removed.Count;
    }

    private static bool Disown(ISqlConnection connection, in RecordHeader header, long pack, bool isLost)
    {
        var scope = ObjectTable.FindScope(connection, header.Scope) ?? -1;
        var hasOther = false;
        // A copy in doubt is better than none. Whichever it is, it is the next to be read.
        using (var others = connection.Prepare("SELECT pack FROM object WHERE id = ?1 AND kind = ?2 AND scope = ?3 AND pack <> ?4 AND (pack > 0 OR (?5 = 1 AND pack < 0)) LIMIT 1"))
        {
            if (others.Bind(1, header.Id).Bind(2, (long)header.Kind).Bind(3, scope).Bind(4, pack).Bind(5, isLost ? 1 : 0).Step())
            {
                hasOther = true;
                PackTable.SetChecked(connection, Math.Abs(others.GetInt64(0)), 0);
            }
        }
        var isKept = !hasOther && !IsUnneeded(connection, header);
        using var statement = connection.Prepare((isLost, isKept) switch
        {
            (true, false) => "DELETE FROM object WHERE id = ?1 AND kind = ?2 AND scope = ?3 AND pack = ?4",
            (true, true) => "UPDATE object SET pack = 0, position = ?4 WHERE id = ?1 AND kind = ?2 AND scope = ?3 AND pack = ?4",
            _ => "UPDATE object SET pack = -?4 WHERE id = ?1 AND kind = ?2 AND scope = ?3 AND pack = ?4",
        });
        var isKnown = statement.Bind(1, header.Id).Bind(2, (long)header.Kind).Bind(3, scope).Bind(4, pack).Execute() == 1;
        if (isKnown && isLost)
        {
            PackTable.AddDead(connection, pack, 1, header.RecordLength);
        }
        return isKnown && isKept;
    }

    private static bool IsUnneeded(ISqlConnection connection, in RecordHeader header)
    {
        using var find = connection.Prepare("SELECT 1 FROM object WHERE id = ?1 AND kind = ?2 AND (count > 0 OR holds = 1) LIMIT 1");
        return !find.Bind(1, header.Id).Bind(2, (long)header.Kind).Step();
    }

    private static bool CountDead(ISqlConnection connection, IStatement deleted)
    {
        var any = false;
        var dead = new List<(long Pack, long Bytes)>();
        while (deleted.Step())
        {
            any = true;
            if (deleted.GetInt64(0) < 0)
            {
                dead.Add((-deleted.GetInt64(0), RecordHeader.Size + deleted.GetInt64(1)));
            }
        }
        dead.ForEach(row => PackTable.AddDead(connection, row.Pack, 1, row.Bytes));
        return any;
    }
}
