using System.Globalization;
using SQLitePCL;
using VirtBackup.Core;

namespace VirtBackup.Database;

/// <summary>
/// <see cref="IDatabase"/> on SQLite: write-ahead log, one writing connection, a few reading ones. The file, its log and
/// its lock file are readable by their owner only. The file system must be local: SQLite's log needs shared memory.
/// </summary>
public sealed class SqliteDatabase : IDatabase
{
    private readonly SqliteSession _writer;
    private readonly Stack<SqliteSession> _idleReaders = new();
    private readonly SemaphoreSlim _writing = new(1, 1);
    private readonly SemaphoreSlim _reading;
    private readonly int _readers;
    private readonly OwnerLock? _lock;
    private bool _disposed;

    static SqliteDatabase() => Batteries_V2.Init();

    private SqliteDatabase(SqliteSession writer, IReadOnlyCollection<SqliteSession> readers, OwnerLock? ownerLock, bool inTurn)
    {
        _writer = writer;
        _lock = ownerLock;
        _readers = readers.Count;
        foreach (var reader in readers)
        {
            _idleReaders.Push(reader);
        }
        _reading = inTurn ? _writing : new SemaphoreSlim(_readers, _readers);
    }

    /// <summary>Opens or creates the database <paramref name="path"/> and brings its schema to the known version.</summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Unsupported"/>: made by a newer program, or of another kind;
    /// <see cref="FaultReason.RepositoryBusy"/>: owned by another process; <see cref="FaultReason.Corrupt"/>: damaged.
    /// </exception>
    public static SqliteDatabase Open(string path, SchemaMigrations schema, SqliteOptions? options = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(schema);
        options ??= new SqliteOptions();
        Check.That(options.Readers is >= 1 and <= 64);
        path = Path.GetFullPath(path);
        var opened = new List<SqliteSession>();
        var ownerLock = options.Exclusive ? OwnerLock.Take(path) : null;
        try
        {
            OwnerLock.CreateOwnerOnly(path);
            var writer = Connect(opened, path, path, options, options.CacheKibibytes);
            if (writer.Query("PRAGMA journal_mode=WAL") != "wal")
            {
                throw new FaultException(
                    FaultReason.Unsupported, $"The file system of the database {path} does not support its write-ahead log: keep it on a local file system.");
            }
            writer.Command("PRAGMA journal_size_limit=67108864; PRAGMA wal_autocheckpoint=4096");
            if (options.VerifyStructure)
            {
                VerifyStructure(writer);
            }
            SqliteSchema.Apply(writer, schema);
            for (var i = 0; i < options.Readers; i++)
            {
                ConnectReader(opened, path, path, options);
            }
            return new SqliteDatabase(writer, opened[1..], ownerLock, inTurn: false);
        }
        catch
        {
            opened.ForEach(session => session.Dispose());
            ownerLock?.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Opens the database called <paramref name="name"/> in this process's memory. Instances of one name share their data,
    /// which goes when the last one is disposed. Readers and writers take turns.
    /// </summary>
    public static SqliteDatabase OpenInMemory(string name, SchemaMigrations schema)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        ArgumentNullException.ThrowIfNull(schema);
        var opened = new List<SqliteSession>();
        try
        {
            var (location, options) = ($"file:/{Uri.EscapeDataString(name)}?vfs=memdb", new SqliteOptions());
            var writer = Connect(opened, name, location, options, options.CacheKibibytes);
            SqliteSchema.Apply(writer, schema);
            // Not the writer: to switch between reading and writing makes SQLite prepare every statement anew.
            ConnectReader(opened, name, location, options);
            return new SqliteDatabase(writer, opened[1..], null, inTurn: true);
        }
        catch
        {
            opened.ForEach(session => session.Dispose());
            throw;
        }
    }

    public async ValueTask<T> WriteAsync<T>(Func<ISqlConnection, T> body, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(body);
        await _writing.WaitAsync(cancellationToken);
        try
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            return _writer.Run("BEGIN IMMEDIATE", body, cancellationToken);
        }
        finally
        {
            _writing.Release();
        }
    }

    public async ValueTask<T> ReadAsync<T>(Func<ISqlConnection, T> body, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(body);
        await _reading.WaitAsync(cancellationToken);
        try
        {
            SqliteSession reader;
            lock (_idleReaders)
            {
                ObjectDisposedException.ThrowIf(_disposed, this);
                reader = _idleReaders.Pop();
            }
            try
            {
                return reader.Run("BEGIN", body, cancellationToken);
            }
            finally
            {
                lock (_idleReaders)
                {
                    _idleReaders.Push(reader);
                }
            }
        }
        finally
        {
            _reading.Release();
        }
    }

    public IScratch OpenScratch() => _reading == _writing ? new MemoryScratch() : new FileScratch(_writer.Path);

    /// <summary>Waits for the transactions that are under way, then closes.</summary>
    public async ValueTask DisposeAsync()
    {
        await _writing.WaitAsync();
        try
        {
            if (_disposed)
            {
                return;
            }
            _disposed = true;
            for (var i = 0; i < _readers && _reading != _writing; i++)
            {
                await _reading.WaitAsync();
            }
            foreach (var reader in _idleReaders)
            {
                reader.Dispose();
            }
            if (_reading != _writing)
            {
                _reading.Release(_readers);
            }
            // Last: it copies the log into the file and removes it.
            _writer.Dispose();
            _lock?.Dispose();
        }
        finally
        {
            _writing.Release();
        }
    }

    private static SqliteSession Connect(List<SqliteSession> opened, string path, string location, SqliteOptions options, int cacheKibibytes)
    {
        var session = new SqliteSession(path, location);
        opened.Add(session);
        session.Command("PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF; PRAGMA temp_store=MEMORY");
        session.Command(string.Create(
            CultureInfo.InvariantCulture,
            $"PRAGMA busy_timeout={options.BusyTimeoutMilliseconds}; PRAGMA cache_size=-{cacheKibibytes}"));
        session.Command(options.DurableCommits ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL");
        return session;
    }

    private static void ConnectReader(List<SqliteSession> opened, string path, string location, SqliteOptions options) =>
        Connect(opened, path, location, options, options.ReaderCacheKibibytes).Command("PRAGMA query_only=ON");

    private static void VerifyStructure(SqliteSession session)
    {
        if (session.Query("PRAGMA quick_check(1)") is var verdict and not "ok")
        {
            throw FaultException.Corrupt(
                $"The database {session.Path} is damaged ({verdict}): move the file away and rebuild it from the repository, or restore it from a copy.");
        }
    }
}
