using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Scrubbing;

namespace VirtBackup.Repository.Index;

/// <summary>Statements on objects. Each method runs inside a transaction of the caller.</summary>
internal static class ObjectTable
{
    /// <summary>The number of <paramref name="scope"/>, or null when nothing was ever stored for it.</summary>
    public static long? FindScope(ISqlConnection connection, Id16 scope)
    {
        using var statement = connection.Prepare("SELECT number FROM scope WHERE id = ?1");
        return statement.Bind(1, scope).Step() ? statement.GetInt64(0) : null;
    }

    public static long AddScope(ISqlConnection connection, Id16 scope)
    {
        if (FindScope(connection, scope) is { } known)
        {
            return known;
        }
        using var statement = connection.Prepare("INSERT INTO scope(id) VALUES (?1) RETURNING number");
        Check.That(statement.Bind(1, scope).Step());
        var number = statement.GetInt64(0);
        statement.Step();
        return number;
    }

    /// <summary>
    /// Adds a pack and all its records that the index lacks; a pack in the trash comes back from there, and one that is known
    /// is young again. An object that is known gets one more location, and is condemned no longer.
    /// </summary>
    /// <returns>Records that were in quarantine or in doubt, and have a sound location now.</returns>
    public static List<HealedRecord> AddPack(ISqlConnection connection, StoredPack pack, long generation, long createdMs)
    {
        var healed = new List<HealedRecord>();
        var (number, isLive) = Enter(connection, pack, generation, createdMs);
        using var insert = PrepareInsert(connection);
        insert.Bind(2, (long)pack.Kind).Bind(4, number);
        using var numbers = new ObjectNumbers(connection);
        var (scope, scopeNumber) = (default(Id16), -1L);
        foreach (ref readonly var entry in pack.Entries.AsSpan())
        {
            var header = entry.Header;
            if (scopeNumber < 0 || header.Scope != scope)
            {
                scope = header.Scope;
                scopeNumber = AddScope(connection, scope);
            }
            var known = numbers.Find(header.Kind, header.Id);
            var identity = known ?? numbers.Next();
            if (identity.CondemnedMs > 0)
            {
                Revive(connection, header.Kind, header.Id);
            }
            Bind(insert, entry, scopeNumber, identity with { CondemnedMs = 0 });
            if (insert.Execute() == 1 && isLive)
            {
                PackTable.AddDead(connection, number, -1, -header.RecordLength);
            }
            if (known is not null && UnlocatedTable.Settle(connection, header.Kind, header.Id, scopeNumber))
            {
                healed.Add(new HealedRecord(header.Kind, header.Id, header.Scope));
            }
        }
        return healed;
    }

    /// <summary>
    /// Adds a pack that takes over records of other packs: each as its object is now, if it still lies where it was taken
    /// from. The old locations go; their packs count them as dead.
    /// </summary>
    /// <param name="connection">Of a write.</param>
    /// <param name="pack">The new pack, durable; the index may know it, from a run that was cut off.</param>
    /// <param name="moves">What was copied into it, and what it holds of others that need not be kept twice.</param>
    /// <param name="generation">Of the owner.</param>
    /// <param name="createdMs">The youngest source's.</param>
    /// <param name="staying">Numbers of packs whose records stay where they are all the same; null: of none.</param>
    public static void MoveInto(
        ISqlConnection connection, StoredPack pack, IReadOnlyList<RecordMove> moves, long generation, long createdMs, IReadOnlySet<long>? staying = null)
    {
        var (number, isLive) = Enter(connection, pack, generation, createdMs);
        using var insert = PrepareInsert(connection);
        insert.Bind(2, (long)pack.Kind).Bind(4, number);
        using var find = connection.Prepare(
            "SELECT number, count, holds, condemned_ms FROM object WHERE id = ?1 AND kind = ?2 AND scope = ?3 AND pack = ?4");
        using var remove = connection.Prepare("DELETE FROM object WHERE id = ?1 AND kind = ?2 AND scope = ?3 AND pack = ?4");
        find.Bind(2, (long)pack.Kind);
        remove.Bind(2, (long)pack.Kind);
        foreach (var move in moves)
        {
            var header = move.Entry.Header;
            var scope = AddScope(connection, header.Scope);
            var isThere = find.Bind(1, header.Id).Bind(3, scope).Bind(4, move.Source).Step();
            if (isThere && staying?.Contains(move.Source) == true)
            {
                find.Reset();
                isThere = false;
            }
            if (isThere)
            {
                var identity = new ObjectIdentity(find.GetInt64(0), find.GetInt64(1), find.GetInt64(2), find.GetInt64(3));
                find.Reset();
                if (move.IsCopied)
                {
                    Bind(insert, move.Entry, scope, identity);
                    if (insert.Execute() == 1 && isLive)
                    {
                        PackTable.AddDead(connection, number, -1, -header.RecordLength);
                    }
                }
                if (!move.IsCopied && !find.Bind(4, number).Step())
                {
                    continue;
                }
                find.Reset();
                remove.Bind(1, header.Id).Bind(3, scope).Bind(4, move.Source).Execute();
                PackTable.AddDead(connection, move.Source, 1, header.RecordLength);
            }
            else if (move.IsCopied && !isLive)
            {
                PackTable.AddDead(connection, number, 1, header.RecordLength);
            }
        }
    }

    /// <summary>All locations of an object, in no order, doubtful ones too; appended to <paramref name="locations"/>.</summary>
    public static void FindLocations(ISqlConnection connection, RecordKind kind, long scope, Id32 id, List<ObjectLocation> locations)
    {
        using var statement = connection.Prepare(
            "SELECT pack, position, sealed_length, raw_length FROM object WHERE id = ?1 AND kind = ?2 AND scope = ?3 AND pack <> 0");
        statement.Bind(1, id).Bind(2, (long)kind).Bind(3, scope);
        while (statement.Step())
        {
            var pack = statement.GetInt64(0);
            locations.Add(new ObjectLocation(Math.Abs(pack), statement.GetInt64(1), (int)statement.GetInt64(2), (int)statement.GetInt64(3)) { IsDoubtful = pack < 0 });
        }
    }

    /// <summary>Sets bit i of <paramref name="bitmap"/> for every chunk that is stored for the scope, and notes its number.</summary>
    /// <param name="ids">n * 32 bytes.</param>
    public static void ProbeChunks(ISqlConnection connection, long scope, ReadOnlySpan<byte> ids, Span<byte> bitmap, List<long> numbers, List<Id32> condemned) =>
        Probe(connection, "SELECT number, condemned_ms FROM object WHERE id = ?1 AND kind = 1 AND scope = ?2 AND pack > 0 LIMIT 1", scope, ids, bitmap, numbers, condemned);

    /// <summary>Sets bit i of <paramref name="bitmap"/> for every node below which everything is stored, and notes its number.</summary>
    /// <param name="ids">n * 32 bytes.</param>
    public static void ProbeNodes(ISqlConnection connection, long scope, ReadOnlySpan<byte> ids, Span<byte> bitmap, List<long> numbers, List<Id32> condemned) =>
        Probe(
            connection,
            "SELECT o.number, o.condemned_ms FROM complete_node n JOIN object o ON o.id = n.id AND o.kind = 2 WHERE n.id = ?1 AND n.scope = ?2 LIMIT 1",
            scope, ids, bitmap, numbers, condemned);

    private static void Probe(ISqlConnection connection, string sql, long scope, ReadOnlySpan<byte> ids, Span<byte> bitmap, List<long> numbers, List<Id32> condemned)
    {
        using var statement = connection.Prepare(sql);
        statement.Bind(2, scope);
        for (var i = 0; i < ids.Length / Id32.Size; i++)
        {
            statement.Bind(1, ids.Slice(i * Id32.Size, Id32.Size));
            if (statement.Step())
            {
                bitmap[i / 8] |= (byte)(1 << (i % 8));
                numbers.Add(statement.GetInt64(0));
                if (statement.GetInt64(1) > 0)
                {
                    condemned.Add(Id32.Read(ids[(i * Id32.Size)..]));
                }
                statement.Reset();
            }
        }
    }

    /// <summary>The object is condemned no longer.</summary>
    public static void Revive(ISqlConnection connection, RecordKind kind, Id32 id)
    {
        using var revive = connection.Prepare("UPDATE object SET condemned_ms = 0 WHERE id = ?1 AND kind = ?2");
        revive.Bind(1, id).Bind(2, (long)kind).Execute();
    }

    /// <summary>The number of the pack, and whether it was alive already.</summary>
    private static (long Number, bool IsLive) Enter(ISqlConnection connection, StoredPack pack, long generation, long createdMs)
    {
        var known = PackTable.Find(connection, pack.Hash);
        if (known is { State: PackState.Live })
        {
            PackTable.Renew(connection, known.Number, createdMs);
            return (known.Number, true);
        }
        if (known is not null)
        {
            PackTable.Remove(connection, known.Number);
        }
        return (PackTable.Add(connection, pack, generation, createdMs), false);
    }

    private static IStatement PrepareInsert(ISqlConnection connection) => connection.Prepare(
        """
        INSERT INTO object(id, kind, scope, pack, position, sealed_length, raw_length, codec, id_generation, number, count, holds, condemned_ms)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
        ON CONFLICT(id, kind, scope, pack) DO NOTHING
        """);

    private static void Bind(IStatement insert, in PackEntry entry, long scope, in ObjectIdentity identity)
    {
        var header = entry.Header;
        insert.Bind(1, header.Id).Bind(3, scope).Bind(5, entry.Offset).Bind(6, header.SealedLength)
            .Bind(7, header.RawLength).Bind(8, (long)header.Codec).Bind(9, header.IdGeneration)
            .Bind(10, identity.Number).Bind(11, identity.Count).Bind(12, identity.Holds).Bind(13, identity.CondemnedMs);
    }
}
