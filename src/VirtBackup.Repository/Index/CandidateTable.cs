using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Records;

namespace VirtBackup.Repository.Index;

/// <summary>A node without reference that still holds its children.</summary>
internal readonly record struct ReleasableNode(Id32 Id, long Number, long CreatedMs);

/// <summary>A pack with objects that nothing refers to.</summary>
internal readonly record struct CandidatePack(long Number, long CreatedMs, long Records);

/// <summary>An object without reference.</summary>
internal readonly record struct Candidate(Id32 Id, RecordKind Kind, long Number, bool Holds, long CondemnedMs);

/// <summary>
/// Finds what nothing refers to: rows whose count is zero, which an index keeps apart, so that the cost follows what became
/// free and not what is stored. Each method runs inside a transaction of the caller. Times are Unix milliseconds.
/// </summary>
internal static class CandidateTable
{
    /// <summary>Nodes to release, by id, beginning behind <paramref name="after"/>. A node with several locations may come several times.</summary>
    public static List<ReleasableNode> ListNodes(ISqlConnection connection, Id32 after, int countMax)
    {
        using var statement = connection.Prepare(
            """
            SELECT o.id, o.number, p.created_ms FROM object o JOIN pack p ON p.number = o.pack
            WHERE o.count = 0 AND o.holds = 1 AND o.id > ?1 ORDER BY o.id LIMIT ?2
            """);
        statement.Bind(1, after).Bind(2, countMax);
        var nodes = new List<ReleasableNode>();
        while (statement.Step())
        {
            nodes.Add(new ReleasableNode(statement.GetId32(0), statement.GetInt64(1), statement.GetInt64(2)));
        }
        return nodes;
    }

    /// <summary>The node holds its children no longer, if nothing refers to it; true when it did until now.</summary>
    public static bool TryUnhold(ISqlConnection connection, Id32 node)
    {
        using var statement = connection.Prepare("UPDATE object SET holds = 0 WHERE id = ?1 AND kind = 2 AND count = 0 AND holds = 1");
        return statement.Bind(1, node).Execute() > 0;
    }

    /// <summary>Packs with candidates, by number, beginning behind <paramref name="after"/>.</summary>
    public static List<CandidatePack> ListPacks(ISqlConnection connection, long after, int countMax)
    {
        using var statement = connection.Prepare(
            """
            SELECT c.pack, p.created_ms, c.records FROM
                (SELECT pack, count(*) AS records FROM object WHERE count = 0 AND pack > ?1 GROUP BY pack ORDER BY pack LIMIT ?2) c
            JOIN pack p ON p.number = c.pack ORDER BY c.pack
            """);
        statement.Bind(1, after).Bind(2, countMax);
        var packs = new List<CandidatePack>();
        while (statement.Step())
        {
            packs.Add(new CandidatePack(statement.GetInt64(0), statement.GetInt64(1), statement.GetInt64(2)));
        }
        return packs;
    }

    /// <summary>The candidates of a pack.</summary>
    public static List<Candidate> List(ISqlConnection connection, long pack)
    {
        using var statement = connection.Prepare("SELECT id, kind, number, holds, condemned_ms FROM object WHERE count = 0 AND pack = ?1");
        statement.Bind(1, pack);
        var candidates = new List<Candidate>();
        while (statement.Step())
        {
            candidates.Add(new Candidate(
                statement.GetId32(0), (RecordKind)statement.GetInt64(1), statement.GetInt64(2), statement.GetInt64(3) != 0, statement.GetInt64(4)));
        }
        return candidates;
    }

    /// <summary>When the youngest pack that holds the object was stored.</summary>
    public static long YoungestMs(ISqlConnection connection, in Candidate candidate)
    {
        using var statement = connection.Prepare(
            "SELECT max(p.created_ms) FROM object o JOIN pack p ON p.number = o.pack WHERE o.id = ?1 AND o.kind = ?2");
        return statement.Bind(1, candidate.Id).Bind(2, (long)candidate.Kind).Step() ? statement.GetInt64(0) : 0;
    }

    /// <summary>The first look; true when the object was not condemned before.</summary>
    public static bool TryCondemn(ISqlConnection connection, in Candidate candidate, long nowMs)
    {
        using var statement = connection.Prepare(
            "UPDATE object SET condemned_ms = ?3 WHERE id = ?1 AND kind = ?2 AND count = 0 AND holds = 0 AND condemned_ms = 0");
        return statement.Bind(1, candidate.Id).Bind(2, (long)candidate.Kind).Bind(3, nowMs).Execute() > 0;
    }

    /// <summary>The second look: the object leaves the index, and its packs count it as dead.</summary>
    /// <returns>Records and their bytes.</returns>
    public static (long Records, long Bytes) Remove(ISqlConnection connection, in Candidate candidate, long condemnedUntilMs)
    {
        using var statement = connection.Prepare(
            """
            DELETE FROM object WHERE id = ?1 AND kind = ?2 AND count = 0 AND holds = 0 AND condemned_ms > 0 AND condemned_ms <= ?3
            RETURNING pack, sealed_length
            """);
        statement.Bind(1, candidate.Id).Bind(2, (long)candidate.Kind).Bind(3, condemnedUntilMs);
        var removed = new List<(long Pack, long Bytes)>();
        while (statement.Step())
        {
            removed.Add((statement.GetInt64(0), RecordHeader.Size + statement.GetInt64(1)));
        }
        foreach (var (pack, bytes) in removed.Where(static row => row.Pack != 0))
        {
            PackTable.AddDead(connection, Math.Abs(pack), 1, bytes);
        }
        return (removed.Count, removed.Sum(static row => row.Bytes));
    }

    /// <summary>Whether a row names that record of the pack, were it in doubt.</summary>
    public static bool HasRow(ISqlConnection connection, in RecordHeader header, long pack)
    {
        using var statement = connection.Prepare(
            "SELECT 1 FROM object o JOIN scope s ON s.number = o.scope WHERE o.id = ?1 AND o.kind = ?2 AND s.id = ?3 AND o.pack IN (?4, -?4)");
        return statement.Bind(1, header.Id).Bind(2, (long)header.Kind).Bind(3, header.Scope).Bind(4, pack).Step();
    }
}
