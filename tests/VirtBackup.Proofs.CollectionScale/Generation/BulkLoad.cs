using Microsoft.Data.Sqlite;
using SQLitePCL;
using VirtBackup.Core;
using VirtBackup.Format.Records;

namespace VirtBackup.Proofs.CollectionScale.Generation;

/// <summary>
/// Fills a new database as fast as SQLite can: without log and without waiting for the device, in the order of the keys. A
/// crash spoils the file, which is then generated again.
/// </summary>
internal sealed class BulkLoad : IDisposable
{
    private const int RowsPerTransaction = 100_000;
    private readonly SqliteConnection _connection;

    public BulkLoad(string path)
    {
        _connection = new SqliteConnection($"Data Source={path};Pooling=False");
        _connection.Open();
        Execute("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE; PRAGMA cache_size=-65536");
    }

    /// <summary>Inserts a row: numbers are <see cref="long"/>, blobs are bytes.</summary>
    public delegate void Row(params object?[] values);

    public void Execute(string sql)
    {
        using var command = _connection.CreateCommand();
        command.CommandText = sql;
        command.ExecuteNonQuery();
    }

    /// <param name="target">Table and columns.</param>
    /// <param name="fill">Calls for each row.</param>
    public void Insert(string target, Action<Row> fill)
    {
        var columns = target.Count(static c => c == ',') + 1;
        using var statement = new Insertion(_connection, $"INSERT INTO {target} VALUES ({Parameters(columns)})");
        fill(values =>
        {
            Check.That(values.Length == columns);
            for (var i = 0; i < values.Length; i++)
            {
                statement.Bind(i + 1, values[i]);
            }
            statement.Run();
        });
    }

    public ObjectRows PrepareObjects() => new(new Insertion(
        _connection,
        $"INSERT INTO object(id, kind, scope, pack, position, sealed_length, raw_length, codec, id_generation, number, count, holds, condemned_ms) VALUES ({Parameters(13)})"));

    public void Dispose() => _connection.Dispose();

    private static string Parameters(int count) => string.Join(", ", Enumerable.Range(1, count).Select(static number => $"?{number}"));

    /// <summary>Rows of objects, ascending by id.</summary>
    internal sealed class ObjectRows(Insertion insertion) : IDisposable
    {
        public void Add(
            Id32 id, RecordKind kind, long scope, long pack, long position, int sealedLength, int rawLength, RecordCodec codec, int idGeneration, long number,
            int count, bool holds)
        {
            Span<byte> bytes = stackalloc byte[Id32.Size];
            id.Write(bytes);
            insertion.Bind(1, bytes);
            ReadOnlySpan<long> numbers =
                [(long)kind, scope, pack, position, sealedLength, rawLength, (long)codec, idGeneration, number, count, holds ? 1 : 0, 0];
            for (var i = 0; i < numbers.Length; i++)
            {
                insertion.Bind(i + 2, numbers[i]);
            }
            insertion.Run();
        }

        public void Dispose() => insertion.Dispose();
    }

    /// <summary>One prepared statement in transactions of many rows.</summary>
    internal sealed class Insertion : IDisposable
    {
        private readonly sqlite3 _database;
        private readonly sqlite3_stmt _statement;
        private int _rows;

        public Insertion(SqliteConnection connection, string sql)
        {
            _database = connection.Handle!;
            Require(raw.sqlite3_prepare_v2(_database, sql, out _statement), raw.SQLITE_OK);
            Require(raw.sqlite3_exec(_database, "BEGIN"), raw.SQLITE_OK);
        }

        public void Bind(int at, long value) => raw.sqlite3_bind_int64(_statement, at, value);

        public void Bind(int at, ReadOnlySpan<byte> value) => raw.sqlite3_bind_blob(_statement, at, value);

        public void Bind(int at, object? value)
        {
            if (value is byte[] bytes)
            {
                Bind(at, bytes.AsSpan());
            }
            else if (value is long number)
            {
                Bind(at, number);
            }
            else
            {
                Check.That(value is null);
                raw.sqlite3_bind_null(_statement, at);
            }
        }

        public void Run()
        {
            Require(raw.sqlite3_step(_statement), raw.SQLITE_DONE);
            Require(raw.sqlite3_reset(_statement), raw.SQLITE_OK);
            if (++_rows % RowsPerTransaction == 0)
            {
                Require(raw.sqlite3_exec(_database, "COMMIT; BEGIN"), raw.SQLITE_OK);
            }
        }

        public void Dispose()
        {
            raw.sqlite3_finalize(_statement);
            Require(raw.sqlite3_exec(_database, "COMMIT"), raw.SQLITE_OK);
        }

        private void Require(int code, int expected)
        {
            if (code != expected)
            {
                throw new InvalidOperationException($"SQLite refused a generated row: {raw.sqlite3_errmsg(_database).utf8_to_string()} (code {code}).");
            }
        }
    }
}
