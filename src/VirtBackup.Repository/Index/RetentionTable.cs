using VirtBackup.Database;

namespace VirtBackup.Repository.Index;

/// <summary>An object that the store's provider is to retain. Times are Unix milliseconds.</summary>
/// <param name="Name">Its key.</param>
/// <param name="WantedMs">Until when.</param>
internal readonly record struct RetainedRow(string Name, long WantedMs);

/// <summary>
/// What the store's provider is to retain, and what it has promised. A row comes before the provider is asked, so that what
/// moves records knows. Each method runs inside a transaction of the caller.
/// </summary>
internal static class RetentionTable
{
    /// <summary>The object is to be retained until then; never for less than before. A promise of the other kind does not count.</summary>
    public static void Want(ISqlConnection connection, IEnumerable<string> names, long untilMs, bool isFinal)
    {
        using var statement = connection.Prepare(
            """
            INSERT INTO retained(name, wanted_ms, until_ms, final) VALUES (?1, ?2, 0, ?3)
            ON CONFLICT(name) DO UPDATE SET
                wanted_ms = max(wanted_ms, excluded.wanted_ms), until_ms = CASE WHEN final >= excluded.final THEN until_ms ELSE 0 END, final = max(final, excluded.final)
            WHERE excluded.wanted_ms > wanted_ms OR excluded.final > final
            """);
        foreach (var name in names)
        {
            statement.Bind(1, name).Bind(2, untilMs).Bind(3, isFinal ? 1 : 0).Execute();
        }
    }

    /// <summary>Objects that the provider has not promised to retain for so long yet.</summary>
    public static List<RetainedRow> ListOpen(ISqlConnection connection, int countMax)
    {
        using var statement = connection.Prepare("SELECT name, wanted_ms FROM retained WHERE wanted_ms > until_ms LIMIT ?1");
        statement.Bind(1, countMax);
        var rows = new List<RetainedRow>();
        while (statement.Step())
        {
            rows.Add(new RetainedRow(statement.GetString(0)!, statement.GetInt64(1)));
        }
        return rows;
    }

    public static void SetPromised(ISqlConnection connection, RetainedRow row)
    {
        using var statement = connection.Prepare("UPDATE retained SET until_ms = max(until_ms, ?2) WHERE name = ?1");
        statement.Bind(1, row.Name).Bind(2, row.WantedMs).Execute();
    }

    /// <summary>Whether the object is to be retained beyond that time.</summary>
    public static bool IsWanted(ISqlConnection connection, string name, long nowMs)
    {
        using var statement = connection.Prepare("SELECT 1 FROM retained WHERE name = ?1 AND wanted_ms > ?2");
        return statement.Bind(1, name).Bind(2, nowMs).Step();
    }

    /// <summary>What need not be retained any more: to be asked for it now, a provider would refuse.</summary>
    public static void RemoveOver(ISqlConnection connection, long nowMs)
    {
        using var statement = connection.Prepare("DELETE FROM retained WHERE wanted_ms <= ?1");
        statement.Bind(1, nowMs).Execute();
    }

    /// <summary>The object is gone.</summary>
    public static void Remove(ISqlConnection connection, string name)
    {
        using var statement = connection.Prepare("DELETE FROM retained WHERE name = ?1");
        statement.Bind(1, name).Execute();
    }

    /// <summary>Objects that are retained beyond that time, and those that are still to be.</summary>
    public static (long Retained, long Open) Count(ISqlConnection connection, long nowMs)
    {
        using var statement = connection.Prepare(
            "SELECT count(*) FILTER (WHERE until_ms > ?1), count(*) FILTER (WHERE wanted_ms > until_ms) FROM retained");
        return statement.Bind(1, nowMs).Step() ? (statement.GetInt64(0), statement.GetInt64(1)) : (0, 0);
    }
}
