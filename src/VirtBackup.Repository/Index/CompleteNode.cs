using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Maps;

namespace VirtBackup.Repository.Index;

/// <summary>A node with everything below it stored, at a place of this form, with the key epochs used below it.</summary>
internal readonly record struct CompleteNode(Id32 Id, MapPlace Place, EpochSet Epochs);

/// <summary>Statements on complete nodes. Each method runs inside a transaction of the caller.</summary>
internal static class CompleteNodeTable
{
    public static void Add(ISqlConnection connection, long scope, in CompleteNode node) =>
        Add(connection, scope, node.Id, node.Place, AddEpochSet(connection, node.Epochs));

    /// <param name="epochs">The number that <see cref="AddEpochSet"/> gave.</param>
    public static void Add(ISqlConnection connection, long scope, Id32 id, MapPlace place, long epochs)
    {
        using var insert = connection.Prepare(
            """
            INSERT INTO complete_node(id, scope, length, level, shape, epochs) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
            ON CONFLICT(id, scope, length) DO NOTHING
            """);
        insert.Bind(1, id).Bind(2, scope).Bind(3, place.Length).Bind(4, place.Level).Bind(5, Pack(place.Shape)).Bind(6, epochs);
        insert.Execute();
    }

    /// <summary>The node is complete no longer, at any place.</summary>
    public static void Remove(ISqlConnection connection, Id32 id)
    {
        using var statement = connection.Prepare("DELETE FROM complete_node WHERE id = ?1");
        statement.Bind(1, id).Execute();
    }

    /// <summary>The number of the epoch set of a node that is complete at exactly this place, or null.</summary>
    public static long? Find(ISqlConnection connection, long scope, Id32 id, MapPlace place)
    {
        using var statement = connection.Prepare("SELECT level, shape, epochs FROM complete_node WHERE id = ?1 AND scope = ?2 AND length = ?3");
        statement.Bind(1, id).Bind(2, scope).Bind(3, place.Length);
        return statement.Step() && statement.GetInt64(0) == place.Level && statement.GetInt64(1) == Pack(place.Shape)
            ? statement.GetInt64(2) : null;
    }

    public static EpochSet ReadEpochSet(ISqlConnection connection, long number)
    {
        using var statement = connection.Prepare("SELECT members FROM epoch_set WHERE number = ?1");
        return statement.Bind(1, number).Step()
            ? EpochSet.Parse(statement.GetSpan(0))
            : throw FaultException.Corrupt($"The repository's index lacks the set of key epochs {number}: rebuild the index.");
    }

    /// <summary>The number of a set, which is added if it is new.</summary>
    public static long AddEpochSet(ISqlConnection connection, EpochSet set)
    {
        using (var find = connection.Prepare("SELECT number FROM epoch_set WHERE hash = ?1"))
        {
            if (find.Bind(1, set.Hash).Step())
            {
                return find.GetInt64(0);
            }
        }
        using var insert = connection.Prepare("INSERT INTO epoch_set(hash, members) VALUES (?1, ?2) RETURNING number");
        Check.That(insert.Bind(1, set.Hash).Bind(2, set.ToBytes()).Step());
        var number = insert.GetInt64(0);
        insert.Step();
        return number;
    }

    private static long Pack(MapShape shape) => ((long)shape.Chunker << 16) | ((long)shape.ChunkLog2 << 8) | shape.SpanLog2;
}
