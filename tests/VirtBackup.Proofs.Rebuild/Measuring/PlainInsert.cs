using System.Diagnostics;
using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Proofs.Rebuild.Measuring;

/// <summary>
/// The measure: the rows of an index, from memory, in the order of their keys, into the same tables of an empty database that is
/// opened in the same way, by one prepared statement in large transactions. Only inserting is timed.
/// </summary>
internal sealed class PlainInsert(IDatabase source, IDatabase target)
{
    /// <summary>As many as the product writes at once.</summary>
    private const int RowsPerTransaction = 512 << 10;

    private readonly List<ObjectRow> _objects = new(RowsPerTransaction);
    private readonly List<CompleteRow> _complete = [];

    public double Seconds { get; private set; }

    public double ProcessorSeconds { get; private set; }

    /// <returns>Rows.</returns>
    public async Task<long> RunAsync()
    {
        long rows = 0;
        while (await source.ReadAsync(ReadObjects, CancellationToken.None))
        {
            rows += _objects.Count;
            await TimeAsync(InsertObjects);
        }
        while (await source.ReadAsync(ReadComplete, CancellationToken.None))
        {
            rows += _complete.Count;
            await TimeAsync(InsertComplete);
        }
        return rows;
    }

    private async Task TimeAsync(Action<ISqlConnection> insert)
    {
        var (clock, before) = (Stopwatch.StartNew(), Environment.CpuUsage.TotalTime);
        await target.WriteAsync(insert, CancellationToken.None);
        Seconds += clock.Elapsed.TotalSeconds;
        ProcessorSeconds += (Environment.CpuUsage.TotalTime - before).TotalSeconds;
    }

    private bool ReadObjects(ISqlConnection connection)
    {
        using var list = connection.Prepare(
            """
            SELECT id, kind, scope, pack, position, sealed_length, raw_length, codec, id_generation, number, count, holds, condemned_ms
            FROM object WHERE (id, kind, scope, pack) > (?1, ?2, ?3, ?4) ORDER BY id, kind, scope, pack LIMIT ?5
            """);
        var last = _objects.LastOrDefault();
        list.Bind(1, last.Id).Bind(2, last.Kind).Bind(3, last.Scope).Bind(4, last.Pack).Bind(5, RowsPerTransaction);
        _objects.Clear();
        while (list.Step())
        {
            _objects.Add(new ObjectRow(
                list.GetId32(0), list.GetInt64(1), list.GetInt64(2), list.GetInt64(3), list.GetInt64(4), list.GetInt64(5), list.GetInt64(6), list.GetInt64(7),
                list.GetInt64(8), list.GetInt64(9), list.GetInt64(10), list.GetInt64(11), list.GetInt64(12)));
        }
        return _objects.Count > 0;
    }

    private void InsertObjects(ISqlConnection connection)
    {
        using var insert = connection.Prepare(
            """
            INSERT INTO object(id, kind, scope, pack, position, sealed_length, raw_length, codec, id_generation, number, count, holds, condemned_ms)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
            """);
        foreach (var row in _objects)
        {
            insert.Bind(1, row.Id).Bind(2, row.Kind).Bind(3, row.Scope).Bind(4, row.Pack).Bind(5, row.Position).Bind(6, row.SealedLength).Bind(7, row.RawLength)
                .Bind(8, row.Codec).Bind(9, row.IdGeneration).Bind(10, row.Number).Bind(11, row.Count).Bind(12, row.Holds).Bind(13, row.CondemnedMs).Execute();
        }
    }

    private bool ReadComplete(ISqlConnection connection)
    {
        using var list = connection.Prepare(
            """
            SELECT id, scope, length, level, shape, epochs FROM complete_node WHERE (id, scope, length) > (?1, ?2, ?3) ORDER BY id, scope, length LIMIT ?4
            """);
        var last = _complete.LastOrDefault();
        list.Bind(1, last.Id).Bind(2, last.Scope).Bind(3, last.Length).Bind(4, RowsPerTransaction);
        _complete.Clear();
        while (list.Step())
        {
            _complete.Add(new CompleteRow(list.GetId32(0), list.GetInt64(1), list.GetInt64(2), list.GetInt64(3), list.GetInt64(4), list.GetInt64(5)));
        }
        return _complete.Count > 0;
    }

    private void InsertComplete(ISqlConnection connection)
    {
        using var insert = connection.Prepare("INSERT INTO complete_node(id, scope, length, level, shape, epochs) VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
        foreach (var row in _complete)
        {
            insert.Bind(1, row.Id).Bind(2, row.Scope).Bind(3, row.Length).Bind(4, row.Level).Bind(5, row.Shape).Bind(6, row.Epochs).Execute();
        }
    }

    private readonly record struct ObjectRow(
        Id32 Id, long Kind, long Scope, long Pack, long Position, long SealedLength, long RawLength, long Codec, long IdGeneration, long Number, long Count, long Holds,
        long CondemnedMs);

    private readonly record struct CompleteRow(Id32 Id, long Scope, long Length, long Level, long Shape, long Epochs);
}
