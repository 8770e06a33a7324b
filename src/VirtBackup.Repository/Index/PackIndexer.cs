using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Repository.Scrubbing;

namespace VirtBackup.Repository.Index;

/// <summary>
/// Brings durable packs into the index. Packs that arrive while a transaction runs go into the next one together, so that
/// many small packs cost one flush of the device. Safe for concurrent use.
/// </summary>
internal sealed class PackIndexer(IDatabase database, TimeProvider clock, long generation) : IDisposable
{
    /// <summary>Rows of one transaction, about; 20 000 are written at full speed.</summary>
    private const int RowsPerTransaction = 32 << 10;

    private readonly Lock _sync = new();
    private readonly Queue<Waiting> _queue = new();

    /// <summary>Told which damaged records have a sound copy again. Set once, before the first call.</summary>
    public Action<IReadOnlyList<HealedRecord>>? Healed { get; set; }

    /// <summary>How many records that were damaged got a sound copy so far.</summary>
    public long HealedCount => Interlocked.Read(ref _healedCount);

    private readonly SemaphoreSlim _writing = new(1, 1);
    private long _healedCount;

    /// <summary>Returns when the pack's records are in the index for good.</summary>
    public async ValueTask AddAsync(StoredPack pack, CancellationToken cancellationToken)
    {
        var waiting = new Waiting(pack);
        lock (_sync)
        {
            _queue.Enqueue(waiting);
        }
        while (!waiting.IsDone)
        {
            await _writing.WaitAsync(cancellationToken);
            try
            {
                if (!waiting.IsDone)
                {
                    await WriteNextAsync(cancellationToken);
                }
            }
            finally
            {
                _writing.Release();
            }
        }
        if (waiting.Failure is { } failure)
        {
            throw new FaultException(failure.Reason, failure.Message, failure);
        }
    }

    /// <summary>Forgets a pack of whose records no row is left; false: it is in use, and the next to be checked.</summary>
    public ValueTask<bool> TryForgetAsync(Id32 hash, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                if (PackTable.Find(connection, hash) is not { } pack)
                {
                    return true;
                }
                if (pack is { State: PackState.Live, Records: 1 } && UnlocatedTable.TryGiveUp(connection, pack.Number))
                {
                    PackTable.Remove(connection, pack.Number);
                    return true;
                }
                if (pack.State == PackState.Trash)
                {
                    PackTable.Remove(connection, pack.Number);
                    return true;
                }
                PackTable.SetChecked(connection, pack.Number, 0);
                return false;
            },
            cancellationToken);

    public void Dispose() => _writing.Dispose();

    private async ValueTask WriteNextAsync(CancellationToken cancellationToken)
    {
        var batch = Take();
        var now = clock.GetUtcNow().ToUnixTimeMilliseconds();
        try
        {
            var healed = await database.WriteAsync(
                connection => batch.SelectMany(waiting => ObjectTable.AddPack(connection, waiting.Pack, generation, now)).ToList(), cancellationToken);
            batch.ForEach(waiting => waiting.IsDone = true);
            if (healed.Count > 0)
            {
                Interlocked.Add(ref _healedCount, healed.Count);
                Healed?.Invoke(healed);
            }
        }
        catch (FaultException failure)
        {
            foreach (var waiting in batch)
            {
                waiting.Failure = failure;
                waiting.IsDone = true;
            }
        }
        catch
        {
            // Cancelled, or a defect: the others' packs are still theirs to write.
            lock (_sync)
            {
                batch.ForEach(_queue.Enqueue);
            }
            throw;
        }
    }

    private List<Waiting> Take()
    {
        var batch = new List<Waiting>();
        lock (_sync)
        {
            for (var rows = 0; rows < RowsPerTransaction && _queue.TryDequeue(out var waiting);)
            {
                batch.Add(waiting);
                rows += waiting.Pack.Entries.Length;
            }
        }
        return batch;
    }

    private sealed class Waiting(StoredPack pack)
    {
        public StoredPack Pack { get; } = pack;
        public bool IsDone { get; set; }
        public FaultException? Failure { get; set; }
    }
}
