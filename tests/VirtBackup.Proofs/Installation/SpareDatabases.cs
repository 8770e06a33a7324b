using System.Collections.Concurrent;
using VirtBackup.Database;

namespace VirtBackup.Proofs.Installation;

/// <summary>
/// Databases in memory that have served, emptied for the next who need one: to open one, and to prepare its statements,
/// takes longer than most of what is done with it. Safe for concurrent use.
/// </summary>
internal static class SpareDatabases
{
    private static readonly ConcurrentDictionary<SchemaMigrations, ConcurrentBag<SqliteDatabase>> Spares = [];
    private static int _count;

    /// <summary>A database with nothing in it but what its schema puts there.</summary>
    public static async ValueTask<SqliteDatabase> TakeAsync(SchemaMigrations schema)
    {
        if (Spares.GetOrAdd(schema, _ => []).TryTake(out var spare))
        {
            return spare;
        }
        var database = SqliteDatabase.OpenInMemory($"{schema.Name} {Interlocked.Increment(ref _count)}", schema);
        await database.WriteAsync(RememberRows, CancellationToken.None);
        return database;
    }

    /// <summary>Empties a database that nobody uses any more.</summary>
    public static async ValueTask GiveBackAsync(SqliteDatabase database, SchemaMigrations schema)
    {
        await database.WriteAsync(Empty, CancellationToken.None);
        Spares[schema].Add(database);
    }

    private static void RememberRows(ISqlConnection connection)
    {
        foreach (var table in List(connection, "SELECT name FROM main.sqlite_schema WHERE type = 'table' ORDER BY rowid"))
        {
            connection.Execute($"CREATE TEMP TABLE \"first {table}\" AS SELECT * FROM main.{table}");
        }
    }

    private static void Empty(ISqlConnection connection)
    {
        foreach (var table in List(connection, "SELECT name FROM main.sqlite_schema WHERE type = 'table' ORDER BY rowid"))
        {
            Run(connection, $"DELETE FROM main.{table}");
            Run(connection, $"INSERT INTO main.{table} SELECT * FROM temp.\"first {table}\"");
        }
    }

    private static List<string> List(ISqlConnection connection, string sql)
    {
        var names = new List<string>();
        using var rows = connection.Prepare(sql);
        while (rows.Step())
        {
            names.Add(rows.GetString(0)!);
        }
        return names;
    }

    private static void Run(ISqlConnection connection, string sql)
    {
        using var statement = connection.Prepare(sql);
        statement.Execute();
    }
}
