using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Rebuilding;

/// <summary>
/// Proves bucket by bucket that the chunks which leaves name are stored, and writes the rows of objects and complete nodes in
/// the order of their keys, with their counts. Runs once, on an index whose packs have their rows.
/// </summary>
internal sealed class RowWriter(RebuildSpace space, IDatabase index, RebuildNews news)
{
    private const int RowsPerTransaction = 512 << 10;

    private readonly SortedBucket _bucket = new(space.Records);
    private readonly Dictionary<int, long> _epochNumbers = [];
    private long[] _scopes = [];
    private long _nextNumber;
    private bool _isBroken;

    public async ValueTask RunAsync(CancellationToken cancellationToken)
    {
        _scopes = await index.WriteAsync(connection => space.Scopes.Select(scope => ObjectTable.AddScope(connection, scope)).ToArray(), cancellationToken);
        if (await TryPassAsync(cancellationToken))
        {
            return;
        }
        // Leaves that lack chunks must not be counted, nor may what is above them: now it is known which.
        await index.WriteAsync(
            static connection => connection.Execute("DELETE FROM object; DELETE FROM complete_node; DELETE FROM epoch_set; UPDATE numbering SET next = 1"), cancellationToken);
        _epochNumbers.Clear();
        _isBroken = false;
        Check.That(await TryPassAsync(cancellationToken));
    }

    /// <summary>False: chunks are missing, so that what was written is not right.</summary>
    private async ValueTask<bool> TryPassAsync(CancellationToken cancellationToken)
    {
        news.AddChecked(space.Trees.Settle());
        news.Tell();
        _nextNumber = 1;
        for (var next = 0; next < RebuildSpace.Buckets;)
        {
            var first = next;
            next = await index.WriteAsync(connection => PassFrom(connection, first), cancellationToken);
        }
        return !_isBroken;
    }

    /// <summary>Does as many buckets as belong into one transaction; returns the next.</summary>
    private int PassFrom(ISqlConnection connection, int bucket)
    {
        for (long rows = 0; bucket < RebuildSpace.Buckets && rows < RowsPerTransaction; bucket++)
        {
            _bucket.Load(bucket);
            news.Tell();
            CheckChunks(bucket);
            news.Tell();
            if (!_isBroken)
            {
                WriteObjects(connection);
                var written = _bucket.Count + WriteCompleteNodes(connection);
                rows += written;
                news.AddRows(written);
                news.Tell();
            }
        }
        using var numbering = connection.Prepare("UPDATE numbering SET next = ?1");
        numbering.Bind(1, _nextNumber).Execute();
        return bucket;
    }

    private void CheckChunks(int bucket)
    {
        var chunks = space.Trees.Chunks;
        for (var block = 0; block < chunks.BlocksOf(bucket); block++)
        {
            var references = chunks.ReadBlock(bucket, block);
            foreach (ref readonly var reference in references)
            {
                ref var mark = ref space.Trees[reference.Mark];
                if (mark.IsBroken)
                {
                    continue;
                }
                var chunk = _bucket.FindChunk(reference, mark.Scope);
                if (chunk < 0)
                {
                    mark.IsBroken = true;
                    _isBroken = true;
                }
                else if (mark.Counts)
                {
                    _bucket.Hold(chunk, reference.Mark);
                }
            }
            news.AddChecked(references.Length);
        }
    }

    private void WriteObjects(ISqlConnection connection)
    {
        using var insert = connection.Prepare(
            """
            INSERT INTO object(id, kind, scope, pack, position, sealed_length, raw_length, codec, id_generation, number, count, holds, condemned_ms)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, 0)
            """);
        // Bindings stay: what most records have in common is bound where it changes.
        var last = new StoredRecord { Scope = -1 };
        for (var at = 0; at < _bucket.Count; at++)
        {
            ref readonly var record = ref _bucket[at];
            if (at == 0 || record.Id != last.Id || record.Kind != last.Kind)
            {
                insert.Bind(1, record.Id).Bind(10, _nextNumber++);
                BindCounts(insert, at, record);
            }
            if (record.Kind != last.Kind || record.Scope != last.Scope || record.IdGeneration != last.IdGeneration || record.Codec != last.Codec)
            {
                insert.Bind(2, (long)record.Kind).Bind(3, _scopes[record.Scope]).Bind(8, (long)record.Codec).Bind(9, record.IdGeneration);
            }
            insert.Bind(4, space.Packs[record.Pack].Number).Bind(5, record.Position).Bind(6, record.SealedLength).Bind(7, record.RawLength);
            insert.Execute();
            last = record;
        }
    }

    private void BindCounts(IStatement insert, int at, in StoredRecord record)
    {
        if (record.Kind == RecordKind.Data)
        {
            insert.Bind(11, _bucket.HoldersOf(at)).Bind(12, 0);
            return;
        }
        var node = space.Trees.Nodes.Find(record.Id);
        insert.Bind(11, space.Trees.Nodes[node].References).Bind(12, IsHolding(node) ? 1 : 0);
    }

    private bool IsHolding(int node)
    {
        for (var mark = space.Trees.Nodes[node].FirstMark; mark >= 0; mark = space.Trees[mark].Next)
        {
            if (space.Trees[mark].Counts)
            {
                return true;
            }
        }
        return false;
    }

    private int WriteCompleteNodes(ISqlConnection connection)
    {
        var rows = 0;
        for (var at = 0; at < _bucket.Count; at++)
        {
            ref readonly var record = ref _bucket[at];
            if (record.Kind != RecordKind.Map || (at > 0 && _bucket[at - 1].Id == record.Id && _bucket[at - 1].Kind == RecordKind.Map))
            {
                continue;
            }
            for (var next = space.Trees.Nodes[space.Trees.Nodes.Find(record.Id)].FirstMark; next >= 0; next = space.Trees[next].Next)
            {
                ref var mark = ref space.Trees[next];
                if (!mark.IsBroken)
                {
                    CompleteNodeTable.Add(connection, _scopes[mark.Scope], record.Id, mark.Place, EpochSetOf(connection, mark.Epochs));
                    rows++;
                }
            }
        }
        return rows;
    }

    private long EpochSetOf(ISqlConnection connection, int epochs)
    {
        if (!_epochNumbers.TryGetValue(epochs, out var number))
        {
            _epochNumbers.Add(epochs, number = CompleteNodeTable.AddEpochSet(connection, space.Trees.Epochs[epochs]));
        }
        return number;
    }
}
