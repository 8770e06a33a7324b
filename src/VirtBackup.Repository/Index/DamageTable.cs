using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Repository.Index;

/// <summary>A pack that was found damaged. Times are Unix milliseconds; 0: not healed.</summary>
/// <param name="Records">Records that had no sound copy when it was found.</param>
internal sealed record DamageRow(long Pack, Id32 Hash, string Problem, long Records, long FoundMs, long HealedMs);

/// <summary>Statements on damaged packs. Each method runs inside a transaction of the caller.</summary>
internal static class DamageTable
{
    public static void Put(ISqlConnection connection, DamageRow row)
    {
        using var statement = connection.Prepare(
            """
            INSERT INTO damage(pack, hash, problem, records, found_ms, healed_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
            ON CONFLICT(pack) DO UPDATE SET problem = excluded.problem, records = excluded.records, healed_ms = excluded.healed_ms
            """);
        statement.Bind(1, row.Pack).Bind(2, row.Hash).Bind(3, row.Problem).Bind(4, row.Records).Bind(5, row.FoundMs).Bind(6, row.HealedMs).Execute();
    }

    /// <summary>All of them, the oldest first.</summary>
    public static List<DamageRow> List(ISqlConnection connection)
    {
        using var statement = connection.Prepare("SELECT pack, hash, problem, records, found_ms, healed_ms FROM damage ORDER BY found_ms, pack");
        var rows = new List<DamageRow>();
        while (statement.Step())
        {
            rows.Add(new DamageRow(
                statement.GetInt64(0), statement.GetId32(1), statement.GetString(2)!, statement.GetInt64(3), statement.GetInt64(4), statement.GetInt64(5)));
        }
        return rows;
    }

    /// <summary>The name of a damaged pack; zero: it is not listed.</summary>
    public static Id32 FindHash(ISqlConnection connection, long pack)
    {
        using var statement = connection.Prepare("SELECT hash FROM damage WHERE pack = ?1");
        return statement.Bind(1, pack).Step() ? statement.GetId32(0) : Id32.Zero;
    }

    /// <summary>Damages of which nothing is left: their records have sound copies again, or nothing needs them.</summary>
    public static List<DamageRow> Settle(ISqlConnection connection, long nowMs)
    {
        var settled = List(connection).FindAll(row => row.HealedMs == 0 && UnlocatedTable.Count(connection, row.Pack) == (0, 0));
        settled.ForEach(row => Put(connection, row with { HealedMs = Math.Max(1, nowMs) }));
        return settled;
    }
}
