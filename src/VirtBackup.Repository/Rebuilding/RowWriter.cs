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
            next = await index.WriteAsync(connection => PassFrom(connection, first, cancellationToken), cancellationToken);
        }
        return !_isBroken;
    }

    /// <summary>Does as many buckets as belong into one transaction; returns the next.</summary>
    private int PassFrom(ISqlConnection connection, int bucket, CancellationToken cancellationToken)
    {
        for (long rows = 0; bucket < RebuildSpace.Buckets && rows < RowsPerTransaction; bucket++)
        {
            cancellationToken.ThrowIfCancellationRequested();
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
        using var insert = new ObjectInsert(connection);
        var (number, count, holds) = (0L, 0, false);
        for (var at = 0; at < _bucket.Count; at++)
        {
            ref readonly var record = ref _bucket[at];
            if (IsFirstOfObject(at))
            {
                number = _nextNumber++;
                (count, holds) = record.Kind == RecordKind.Data ? (_bucket.HoldersOf(at), false) : HoldersOf(record.Id);
            }
            insert.Add(new ObjectRow(
                record.Id, record.Kind, _scopes[record.Scope], space.Packs[record.Pack].Number, record.Position, record.SealedLength, record.RawLength, record.Codec,
                record.IdGeneration, number, count, holds));
        }
    }

    private bool IsFirstOfObject(int at) => at == 0 || _bucket[at - 1].Id != _bucket[at].Id || _bucket[at - 1].Kind != _bucket[at].Kind;

    /// <summary>How many nodes hold this one, and whether it holds others.</summary>
    private (int Count, bool Holds) HoldersOf(Id32 id)
    {
        ref var node = ref space.Trees.Nodes[space.Trees.Nodes.Find(id)];
        var holds = false;
        for (var mark = node.FirstMark; mark >= 0 && !holds; mark = space.Trees[mark].Next)
        {
            holds = space.Trees[mark].Counts;
        }
        return (node.References, holds);
    }

    private int WriteCompleteNodes(ISqlConnection connection)
    {
        var rows = 0;
        for (var at = 0; at < _bucket.Count; at++)
        {
            ref readonly var record = ref _bucket[at];
            if (record.Kind != RecordKind.Map || !IsFirstOfObject(at))
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
