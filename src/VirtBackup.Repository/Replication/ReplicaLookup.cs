using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Ingest;

namespace VirtBackup.Repository.Replication;

/// <summary>How much of a map node is here.</summary>
internal enum NodePresence
{
    Absent,

    /// <summary>The node, and nobody knows what below it.</summary>
    Stored,

    /// <summary>The node and everything below it, at that place and for the scope.</summary>
    Complete,
}

/// <summary>
/// Tells what of a point is here, for the session's scope. What it calls present is not deleted while the session is open, and
/// condemned no longer. Safe for concurrent use.
/// </summary>
/// <param name="index">Where to look.</param>
/// <param name="deleting">The gate between deleting and relying.</param>
/// <param name="session">The asking session.</param>
internal sealed class ReplicaLookup(IDatabase index, Gate deleting, IngestSession session)
{
    public ValueTask<NodePresence[]> FindNodesAsync(IReadOnlyList<OpenNode> nodes, CancellationToken cancellationToken) =>
        FindAsync(
            RecordKind.Map,
            "SELECT number, condemned_ms FROM object WHERE id = ?1 AND kind = 2 AND pack > 0 LIMIT 1",
            nodes,
            static (statement, node) => statement.Bind(1, node.Id),
            static node => node.Id,
            static (connection, scope, node, isStored) =>
                scope is { } number && CompleteNodeTable.Find(connection, number, node.Id, node.Place) is not null && isStored ? NodePresence.Complete
                : isStored ? NodePresence.Stored : NodePresence.Absent,
            cancellationToken);

    /// <summary>Whether each chunk has a sound copy of that length for the scope.</summary>
    public ValueTask<bool[]> FindChunksAsync(IReadOnlyList<NamedChunk> chunks, CancellationToken cancellationToken) =>
        FindAsync(
            RecordKind.Data,
            "SELECT number, condemned_ms FROM object WHERE id = ?1 AND kind = 1 AND scope = ?2 AND raw_length = ?3 AND pack > 0 LIMIT 1",
            chunks,
            static (statement, chunk) => statement.Bind(1, chunk.Id).Bind(3, chunk.Length),
            static chunk => chunk.Id,
            static (_, _, _, isStored) => isStored,
            cancellationToken);

    private async ValueTask<TResult[]> FindAsync<TItem, TResult>(
        RecordKind kind, string sql, IReadOnlyList<TItem> items, Action<IStatement, TItem> bind, Func<TItem, Id32> idOf,
        Func<ISqlConnection, long?, TItem, bool, TResult> judge, CancellationToken cancellationToken)
    {
        using var closed = await deleting.CloseAsync(cancellationToken);
        var numbers = new List<long>(items.Count);
        var condemned = new List<Id32>();
        var found = await index.ReadAsync(
            connection =>
            {
                var results = new TResult[items.Count];
                var scope = ObjectTable.FindScope(connection, session.Scope);
                using var statement = connection.Prepare(sql);
                for (var i = 0; i < results.Length; i++)
                {
                    bind(statement, items[i]);
                    if (kind == RecordKind.Data)
                    {
                        statement.Bind(2, scope ?? -1);
                    }
                    var isStored = statement.Step();
                    if (isStored)
                    {
                        numbers.Add(statement.GetInt64(0));
                        if (statement.GetInt64(1) > 0)
                        {
                            condemned.Add(idOf(items[i]));
                        }
                    }
                    statement.Reset();
                    results[i] = judge(connection, scope, items[i], isStored);
                }
                return results;
            },
            cancellationToken);
        session.Claim.Pin(numbers);
        if (condemned.Count > 0)
        {
            await index.WriteAsync(connection => condemned.ForEach(id => ObjectTable.Revive(connection, kind, id)), cancellationToken);
        }
        return found;
    }
}
