using VirtBackup.Core;

namespace VirtBackup.Database;

/// <summary>What a transaction's body works with. Valid only inside that body; not safe for concurrent use.</summary>
public interface ISqlConnection
{
    /// <summary>
    /// Lends a prepared statement from the connection's cache: dispose it to give it back. Two loans of the same text
    /// at one time are two statements. What is still lent at the transaction's end is taken back then.
    /// </summary>
    IStatement Prepare(string sql);

    /// <summary>Runs one or several statements without parameters and without rows (schema, set-up).</summary>
    void Execute(string sql);
}

/// <summary>
/// A prepared statement: bind, then <see cref="Execute"/>, or <see cref="Step"/> through its rows. Parameters are numbered
/// from 1 (<c>?1</c>), columns from 0. To run it again, bind what changes and call again: bindings stay until rebound.
/// </summary>
public interface IStatement : IDisposable
{
    IStatement Bind(int index, long value);

    /// <summary>Binds a text; null binds NULL.</summary>
    IStatement Bind(int index, string? value);

    /// <summary>Binds a copy of the bytes; no bytes bind an empty blob, not NULL.</summary>
    IStatement Bind(int index, ReadOnlySpan<byte> value);

    IStatement Bind(int index, Id16 value);

    IStatement Bind(int index, Id32 value);

    IStatement BindNull(int index);

    /// <summary>Moves to the next row; false behind the last one, after which the statement is ready to run again.</summary>
    bool Step();

    /// <summary>Runs the statement to its end and returns how many rows it inserted, changed or deleted.</summary>
    int Execute();

    /// <summary>Abandons the rows that are left. Bindings stay.</summary>
    void Reset();

    bool IsNull(int column);

    /// <summary>The integer of this column; 0 for NULL.</summary>
    long GetInt64(int column);

    /// <summary>The text of this column, or null for NULL.</summary>
    string? GetString(int column);

    /// <summary>The blob of this column, valid until the next call of <see cref="Step"/>, <see cref="Reset"/> or Dispose; empty for NULL.</summary>
    ReadOnlySpan<byte> GetSpan(int column);

    /// <summary>A copy of the blob of this column; empty for NULL.</summary>
    byte[] GetBytes(int column);

    /// <exception cref="FaultException"><see cref="FaultReason.Corrupt"/>: the column does not hold 16 bytes.</exception>
    Id16 GetId16(int column);

    /// <exception cref="FaultException"><see cref="FaultReason.Corrupt"/>: the column does not hold 32 bytes.</exception>
    Id32 GetId32(int column);
}
