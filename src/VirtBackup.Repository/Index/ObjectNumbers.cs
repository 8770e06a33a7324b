using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Records;

namespace VirtBackup.Repository.Index;

/// <summary>What all rows of one object share.</summary>
/// <param name="Number">Its number: never reused, so that bitmaps and arrays can name it.</param>
/// <param name="Count">References to it.</param>
/// <param name="Holds">1: a node that has added its children's counts.</param>
/// <param name="CondemnedMs">When it was condemned, Unix milliseconds; 0: not.</param>
internal readonly record struct ObjectIdentity(long Number, long Count, long Holds, long CondemnedMs);

/// <summary>Names objects by number within one transaction; dispose it before the transaction's end.</summary>
internal sealed class ObjectNumbers : IDisposable
{
    private readonly ISqlConnection _connection;
    private readonly IStatement _find;
    private long _first;
    private long _next;

    public ObjectNumbers(ISqlConnection connection)
    {
        _connection = connection;
        _find = connection.Prepare("SELECT number, count, holds, condemned_ms FROM object WHERE id = ?1 AND kind = ?2 LIMIT 1");
        using var read = connection.Prepare("SELECT next FROM numbering");
        Check.That(read.Step());
        _first = _next = read.GetInt64(0);
    }

    /// <summary>The object, if it has a row already.</summary>
    public ObjectIdentity? Find(RecordKind kind, Id32 id)
    {
        if (!_find.Bind(1, id).Bind(2, (long)kind).Step())
        {
            return null;
        }
        var identity = new ObjectIdentity(_find.GetInt64(0), _find.GetInt64(1), _find.GetInt64(2), _find.GetInt64(3));
        _find.Reset();
        return identity;
    }

    /// <summary>A new object without references.</summary>
    public ObjectIdentity Next() => new(_next++, 0, 0, 0);

    public void Dispose()
    {
        _find.Dispose();
        if (_next != _first)
        {
            _first = _next;
            using var write = _connection.Prepare("UPDATE numbering SET next = ?1");
            write.Bind(1, _next).Execute();
        }
    }
}
