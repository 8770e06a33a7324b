using SQLitePCL;
using VirtBackup.Core;

namespace VirtBackup.Database;

/// <summary>A statement of one connection; SQLite copies what is bound, so nothing is pinned or allocated per row.</summary>
internal sealed class SqliteStatement(SqliteSession session, string sql, sqlite3_stmt handle) : IStatement
{
    public string Sql => sql;

    /// <summary>Between Prepare and Dispose.</summary>
    public bool IsLent { get; set; }

    public IStatement Bind(int index, long value) => Bound(raw.sqlite3_bind_int64(handle, index, value), index);

    public IStatement Bind(int index, string? value) =>
        value is null ? BindNull(index) : Bound(raw.sqlite3_bind_text(handle, index, value), index);

    public IStatement Bind(int index, ReadOnlySpan<byte> value) =>
        Bound(value.IsEmpty ? raw.sqlite3_bind_zeroblob(handle, index, 0) : raw.sqlite3_bind_blob(handle, index, value), index);

    public IStatement Bind(int index, Id16 value)
    {
        Span<byte> bytes = stackalloc byte[Id16.Size];
        value.Write(bytes);
        return Bind(index, bytes);
    }

    public IStatement Bind(int index, Id32 value)
    {
        Span<byte> bytes = stackalloc byte[Id32.Size];
        value.Write(bytes);
        return Bind(index, bytes);
    }

    public IStatement BindNull(int index) => Bound(raw.sqlite3_bind_null(handle, index), index);

    public bool Step()
    {
        Check.That(IsLent);
        var code = raw.sqlite3_step(handle);
        switch (code)
        {
            case raw.SQLITE_ROW:
                return true;
            case raw.SQLITE_DONE:
                Reset();
                return false;
            default:
                var fault = session.Fault(code);
                Reset();
                throw fault;
        }
    }

    public int Execute()
    {
        while (Step())
        {
        }
        return raw.sqlite3_stmt_readonly(handle) != 0 ? 0 : session.ChangedRows;
    }

    // The code it returns repeats the failure of the last step, which was reported there.
    public void Reset() => _ = raw.sqlite3_reset(handle);

    public bool IsNull(int column) => raw.sqlite3_column_type(handle, Column(column)) == raw.SQLITE_NULL;

    public long GetInt64(int column) => raw.sqlite3_column_int64(handle, Column(column));

    public string? GetString(int column) => IsNull(column) ? null : raw.sqlite3_column_text(handle, column).utf8_to_string();

    public ReadOnlySpan<byte> GetSpan(int column) => raw.sqlite3_column_blob(handle, Column(column));

    public byte[] GetBytes(int column) => GetSpan(column).ToArray();

    public Id16 GetId16(int column) => Id16.Read(GetIdBytes(column, Id16.Size));

    public Id32 GetId32(int column) => Id32.Read(GetIdBytes(column, Id32.Size));

    public void Dispose()
    {
        if (IsLent)
        {
            TakeBack();
            session.Return(this);
        }
    }

    public void TakeBack()
    {
        IsLent = false;
        Reset();
        _ = raw.sqlite3_clear_bindings(handle);
    }

    public void Close() => raw.sqlite3_finalize(handle);

    private ReadOnlySpan<byte> GetIdBytes(int column, int size)
    {
        var bytes = GetSpan(column);
        return bytes.Length == size
            ? bytes
            : throw FaultException.Corrupt($"The database {session.Path} holds an identifier of {bytes.Length} bytes where {size} belong: rebuild it from the repository.");
    }

    private int Column(int column)
    {
        Check.That(IsLent && (uint)column < (uint)raw.sqlite3_data_count(handle));
        return column;
    }

    private SqliteStatement Bound(int code, int index)
    {
        Check.That(IsLent);
        return code == raw.SQLITE_OK ? this : throw new InvariantException($"Parameter {index} of '{sql}' cannot be bound now (SQLite code {code}).");
    }
}
