using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Records;

namespace VirtBackup.Repository.Index;

/// <summary>Statements on packs and objects. Each method runs inside a transaction of the caller.</summary>
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

    public static long? FindPack(ISqlConnection connection, Id32 hash)
    {
        using var statement = connection.Prepare("SELECT number FROM pack WHERE hash = ?1");
        return statement.Bind(1, hash).Step() ? statement.GetInt64(0) : null;
    }

    public static Id32? FindPackHash(ISqlConnection connection, long number)
    {
        using var statement = connection.Prepare("SELECT hash FROM pack WHERE number = ?1");
        return statement.Bind(1, number).Step() ? statement.GetId32(0) : null;
    }

    /// <summary>Adds a pack and all its records; a pack that is known already stays as it is.</summary>
    public static void AddPack(ISqlConnection connection, StoredPack pack, long generation, long createdMs)
    {
        if (FindPack(connection, pack.Hash) is not null)
        {
            return;
        }
        long raw = 0;
        foreach (ref readonly var entry in pack.Entries.AsSpan())
        {
            raw += entry.Header.RawLength;
        }
        var number = AddPackRow(connection, pack, raw, generation, createdMs);
        using var insert = connection.Prepare(
            """
            INSERT INTO object(id, kind, scope, pack, position, sealed_length, raw_length, codec, id_generation)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
            """);
        insert.Bind(2, (long)pack.Kind).Bind(4, number);
        var (scope, scopeNumber) = (default(Id16), -1L);
        foreach (ref readonly var entry in pack.Entries.AsSpan())
        {
            var header = entry.Header;
            if (scopeNumber < 0 || header.Scope != scope)
            {
                scope = header.Scope;
                scopeNumber = AddScope(connection, scope);
            }
            insert.Bind(1, header.Id).Bind(3, scopeNumber).Bind(5, entry.Offset).Bind(6, header.SealedLength)
                .Bind(7, header.RawLength).Bind(8, (long)header.Codec).Bind(9, header.IdGeneration);
            insert.Execute();
        }
    }

    /// <summary>All locations of an object, in no order; appended to <paramref name="locations"/>.</summary>
    public static void FindLocations(ISqlConnection connection, RecordKind kind, long scope, Id32 id, List<ObjectLocation> locations)
    {
        using var statement = connection.Prepare(
            "SELECT pack, position, sealed_length, raw_length FROM object WHERE id = ?1 AND kind = ?2 AND scope = ?3");
        statement.Bind(1, id).Bind(2, (long)kind).Bind(3, scope);
        while (statement.Step())
        {
            locations.Add(new ObjectLocation(statement.GetInt64(0), statement.GetInt64(1), (int)statement.GetInt64(2), (int)statement.GetInt64(3)));
        }
    }

    /// <summary>Sets bit i of <paramref name="bitmap"/> for every id that is stored.</summary>
    /// <param name="ids">n * 32 bytes.</param>
    public static void ProbeChunks(ISqlConnection connection, long scope, ReadOnlySpan<byte> ids, Span<byte> bitmap) =>
        Probe(connection, "SELECT 1 FROM object WHERE id = ?1 AND kind = 1 AND scope = ?2 LIMIT 1", scope, ids, bitmap);

    /// <summary>Sets bit i of <paramref name="bitmap"/> for every node below which everything is stored.</summary>
    /// <param name="ids">n * 32 bytes.</param>
    public static void ProbeNodes(ISqlConnection connection, long scope, ReadOnlySpan<byte> ids, Span<byte> bitmap) =>
        Probe(connection, "SELECT 1 FROM complete_node WHERE id = ?1 AND scope = ?2 LIMIT 1", scope, ids, bitmap);

    private static void Probe(ISqlConnection connection, string sql, long scope, ReadOnlySpan<byte> ids, Span<byte> bitmap)
    {
        using var statement = connection.Prepare(sql);
        statement.Bind(2, scope);
        for (var i = 0; i < ids.Length / Id32.Size; i++)
        {
            statement.Bind(1, ids.Slice(i * Id32.Size, Id32.Size));
            if (statement.Step())
            {
                bitmap[i / 8] |= (byte)(1 << (i % 8));
                statement.Reset();
            }
        }
    }

    private static long AddPackRow(ISqlConnection connection, StoredPack pack, long raw, long generation, long createdMs)
    {
        using var statement = connection.Prepare(
            """
            INSERT INTO pack(hash, kind, records, bytes, raw_bytes, state, generation, created_ms)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) RETURNING number
            """);
        statement.Bind(1, pack.Hash).Bind(2, (long)pack.Kind).Bind(3, pack.Entries.Length).Bind(4, pack.Bytes).Bind(5, raw)
            .Bind(6, (long)PackState.Live).Bind(7, generation).Bind(8, createdMs);
        Check.That(statement.Step());
        var number = statement.GetInt64(0);
        statement.Step();
        return number;
    }
}
