using SQLitePCL;
using VirtBackup.Core;

namespace VirtBackup.Database;

/// <summary>One connection and its prepared statements. Used by one transaction at a time.</summary>
internal sealed class SqliteSession : ISqlConnection, IDisposable
{
    /// <summary>Idle statements kept; a program has far fewer distinct ones.</summary>
    private const int IdleMax = 256;

    private readonly sqlite3 _handle;
    private readonly Dictionary<string, Stack<SqliteStatement>> _idle = new(StringComparer.Ordinal);
    private readonly HashSet<SqliteStatement> _lent = [];
    private int _idleCount;
    private bool _inBody;

    /// <param name="path">What messages call the database.</param>
    /// <param name="location">An absolute path, or a <c>file:</c> URI.</param>
    public SqliteSession(string path, string location)
    {
        Path = path;
        var code = raw.sqlite3_open_v2(
            location, out _handle, raw.SQLITE_OPEN_READWRITE | raw.SQLITE_OPEN_CREATE | raw.SQLITE_OPEN_URI | raw.SQLITE_OPEN_NOMUTEX, null);
        if (code != raw.SQLITE_OK)
        {
            var fault = SqliteFaults.Translate(null, code, path);
            _handle?.Dispose();
            throw fault;
        }
        _ = raw.sqlite3_extended_result_codes(_handle, 1);
    }

    public string Path { get; }

    /// <summary>Set by a device error: what the file holds is uncertain, so nothing more is done with it.</summary>
    public bool IsBroken { get; private set; }

    public int ChangedRows => raw.sqlite3_changes(_handle);

    public IStatement Prepare(string sql)
    {
        Check.That(_inBody);
        return Lend(sql);
    }

    public void Execute(string sql)
    {
        Check.That(_inBody);
        Command(sql);
    }

    /// <summary>
    /// Runs the body between <paramref name="begin"/> and COMMIT. Cancellation interrupts the body's statements, never
    /// the commit.
    /// </summary>
    public T Run<T>(string begin, Func<ISqlConnection, T> body, CancellationToken cancellationToken)
    {
        // A task as a result would go on working behind the commit.
        Check.That(!typeof(Task).IsAssignableFrom(typeof(T)));
        if (IsBroken)
        {
            throw new FaultException(
                FaultReason.Unavailable, $"The database {Path} is not used any more after an error of its device: check the device, then restart the program.");
        }
        cancellationToken.ThrowIfCancellationRequested();
        Once(begin);
        try
        {
            T result;
            using (cancellationToken.UnsafeRegister(static handle => raw.sqlite3_interrupt((sqlite3)handle!), _handle))
            {
                _inBody = true;
                result = body(this);
            }
            EndBody();
            cancellationToken.ThrowIfCancellationRequested();
            Once("COMMIT");
            return result;
        }
        catch (OperationCanceledException exception) when (cancellationToken.IsCancellationRequested && exception.CancellationToken != cancellationToken)
        {
            RollBack();
            throw new OperationCanceledException(exception.Message, exception, cancellationToken);
        }
        catch
        {
            RollBack();
            throw;
        }
    }

    /// <summary>Runs statements outside of any body: settings and schema.</summary>
    public void Command(string sql)
    {
        var code = raw.sqlite3_exec(_handle, sql);
        if (code != raw.SQLITE_OK)
        {
            throw Fault(code);
        }
    }

    /// <summary>The first column of the first row as text; null without rows.</summary>
    public string? Query(string sql)
    {
        using var statement = Lend(sql);
        return statement.Step() ? statement.GetString(0) : null;
    }

    public Exception Fault(int code)
    {
        IsBroken |= SqliteFaults.IsDeviceFailure(code);
        return SqliteFaults.Translate(_handle, code, Path);
    }

    public void Return(SqliteStatement statement)
    {
        _lent.Remove(statement);
        if (_idleCount >= IdleMax)
        {
            statement.Close();
            return;
        }
        if (!_idle.TryGetValue(statement.Sql, out var same))
        {
            _idle.Add(statement.Sql, same = new Stack<SqliteStatement>(1));
        }
        same.Push(statement);
        _idleCount++;
    }

    public void Dispose()
    {
        foreach (var statement in _idle.Values.SelectMany(same => same).Concat(_lent))
        {
            statement.Close();
        }
        _idle.Clear();
        _lent.Clear();
        _ = raw.sqlite3_close_v2(_handle);
    }

    private SqliteStatement Lend(string sql)
    {
        if (_idle.TryGetValue(sql, out var same) && same.TryPop(out var statement))
        {
            _idleCount--;
        }
        else
        {
            var code = raw.sqlite3_prepare_v3(_handle, sql, raw.SQLITE_PREPARE_PERSISTENT, out var handle, out var tail);
            if (code != raw.SQLITE_OK)
            {
                throw Fault(code);
            }
            statement = new SqliteStatement(this, sql, handle);
            if (!string.IsNullOrWhiteSpace(tail))
            {
                statement.Close();
                throw new InvariantException($"Only one statement can be prepared at a time: '{sql}'.");
            }
        }
        statement.IsLent = true;
        _lent.Add(statement);
        return statement;
    }

    private void Once(string sql)
    {
        using var statement = Lend(sql);
        _ = statement.Step();
    }

    private void EndBody()
    {
        _inBody = false;
        if (_lent.Count == 0)
        {
            return;
        }
        foreach (var statement in _lent.ToArray())
        {
            statement.Dispose();
        }
    }

    private void RollBack()
    {
        EndBody();
        // SQLite rolls back by itself after some errors.
        if (raw.sqlite3_get_autocommit(_handle) == 0 && raw.sqlite3_exec(_handle, "ROLLBACK") != raw.SQLITE_OK)
        {
            IsBroken = true;
        }
    }
}
