using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Records;

namespace VirtBackup.Repository.Rebuilding;

/// <summary>A row of an object. Pack and scope are the index's numbers.</summary>
internal readonly record struct ObjectRow(
    Id32 Id, RecordKind Kind, long Scope, long Pack, long Position, int SealedLength, int RawLength, RecordCodec Codec, int IdGeneration, long Number, int Count, bool Holds);

/// <summary>
/// Inserts new objects, many with one statement: what a statement costs beside its rows is a third of a single row's cost. Of
/// one transaction; dispose it to insert the last ones.
/// </summary>
internal sealed class ObjectInsert : IDisposable
{
    private const int RowsPerStatement = 16;
    private const int Columns = 12;

    private static readonly string Many = Sql(RowsPerStatement);
    private static readonly string One = Sql(1);

    private readonly ISqlConnection _connection;
    private readonly IStatement _many;
    private readonly ObjectRow[] _rows = new ObjectRow[RowsPerStatement];

    // What is bound in the place of each row: most records have much in common.
    private readonly ObjectRow[] _bound = new ObjectRow[RowsPerStatement];
    private int _count;

    public ObjectInsert(ISqlConnection connection)
    {
        _connection = connection;
        _many = connection.Prepare(Many);
        for (var i = 0; i < RowsPerStatement; i++)
        {
            BindCommon(_many, i, default);
        }
    }

    public void Add(in ObjectRow row)
    {
        _rows[_count++] = row;
        if (_count < RowsPerStatement)
        {
            return;
        }
        for (var i = 0; i < RowsPerStatement; i++)
        {
            ref readonly var next = ref _rows[i];
            ref var bound = ref _bound[i];
            if (next.Kind != bound.Kind || next.Scope != bound.Scope || next.Codec != bound.Codec || next.IdGeneration != bound.IdGeneration || next.Holds != bound.Holds)
            {
                BindCommon(_many, i, next);
                bound = next;
            }
            BindOwn(_many, i, next);
        }
        Run(_many);
        _count = 0;
    }

    public void Dispose()
    {
        _many.Dispose();
        using var one = _connection.Prepare(One);
        for (var i = 0; i < _count; i++)
        {
            BindCommon(one, 0, _rows[i]);
            BindOwn(one, 0, _rows[i]);
            Run(one);
        }
    }

    private static void Run(IStatement insert) => Check.That(!insert.Step());

    private static void BindOwn(IStatement insert, int at, in ObjectRow row)
    {
        var first = at * Columns;
        insert.Bind(first + 1, row.Id).Bind(first + 2, row.Pack).Bind(first + 3, row.Position).Bind(first + 4, row.SealedLength).Bind(first + 5, row.RawLength)
            .Bind(first + 6, row.Number).Bind(first + 7, row.Count);
    }

    private static void BindCommon(IStatement insert, int at, in ObjectRow row)
    {
        var first = at * Columns;
        insert.Bind(first + 8, (long)row.Kind).Bind(first + 9, row.Scope).Bind(first + 10, (long)row.Codec).Bind(first + 11, row.IdGeneration)
            .Bind(first + 12, row.Holds ? 1 : 0);
    }

    private static string Sql(int rows) =>
        "INSERT INTO object(id, pack, position, sealed_length, raw_length, number, count, kind, scope, codec, id_generation, holds, condemned_ms) VALUES "
        + string.Join(", ", Enumerable.Range(0, rows).Select(static row => $"({string.Join(", ", Enumerable.Range(1, Columns).Select(column => $"?{(row * Columns) + column}"))}, 0)"));
}
