using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Ingest;

namespace VirtBackup.Repository.Scrubbing;

/// <summary>
/// Looks for copies of records without a sound location in other places, checks them, and stores them on the way that every
/// upload takes. Use an instance once.
/// </summary>
/// <param name="begin">Begins to take in records of that scope and id generation.</param>
internal sealed class RecordHealer(
    IObjectStore store, IDatabase index, IReadOnlyList<IRecordSource> sources, IChunkOpener? opener, Func<Id16, ushort, IngestSession> begin)
{
    /// <summary>Records that are looked for by one walk over incomplete points.</summary>
    private const int RecordsPerWalk = 64 << 10;
    private const int RecordsPerSession = 256;

    /// <summary>Fetched bytes that are held until they are durable, beside one record.</summary>
    private const long BatchBytes = 32 << 20;

    private readonly List<(HealedRecord, string)> _healed = [];
    private readonly Dictionary<(Id32 Id, Id16 Scope), (Id16 Vm, MapEntry Entry)> _named = [];
    private long _healedCount;
    private long _missing;

    public async ValueTask<HealReport> RunAsync(CancellationToken cancellationToken)
    {
        // Only through sound nodes it is known which entries name a chunk.
        await HealAsync(RecordKind.Map, cancellationToken);
        await HealAsync(RecordKind.Data, cancellationToken);
        return new HealReport(_healed, _healedCount, _missing);
    }

    private async ValueTask HealAsync(RecordKind kind, CancellationToken cancellationToken)
    {
        for (var after = UnlocatedName.First; ;)
        {
            var from = after;
            var page = await index.ReadAsync(connection => UnlocatedTable.List(connection, from, RecordsPerWalk), cancellationToken);
            if (page.Count == 0)
            {
                return;
            }
            after = page[^1].Name;
            var lost = page.FindAll(row => row.Record.Header.Kind == kind).ConvertAll(static row => row.Record.Header);
            if (sources.Count == 0 || lost.Count == 0)
            {
                _missing += lost.Count;
                continue;
            }
            if (kind == RecordKind.Data && opener is not null)
            {
                await NameAsync(lost, cancellationToken);
            }
            foreach (var group in lost.GroupBy(static header => (header.Scope, header.IdGeneration)))
            {
                // Backwards, so that copies of a whole pack do not make one of its name.
                foreach (var wanted in group.Reverse().Chunk(RecordsPerSession))
                {
                    await HealAsync(kind, group.Key.Scope, group.Key.IdGeneration, wanted, cancellationToken);
                }
            }
        }
    }

    /// <summary>Finds map entries that name lost chunks: with them a copy can be opened.</summary>
    private async ValueTask NameAsync(List<RecordHeader> lost, CancellationToken cancellationToken)
    {
        _named.Clear();
        var wanted = lost.Select(static header => (header.Id, header.Scope)).ToHashSet();
        var walk = new IncompleteWalk(store, index)
        {
            Leaf = (at, leaf, _) =>
            {
                for (var i = 0; i < leaf.Count; i++)
                {
                    if (wanted.Contains((leaf.IdAt(i), at.Head.Scope)))
                    {
                        _named.TryAdd((leaf.IdAt(i), at.Head.Scope), (at.Head.Vm, leaf[i]));
                    }
                }
                return ValueTask.CompletedTask;
            },
        };
        foreach (var (info, forgottenMs, _) in await index.ReadAsync(PointTable.ListIncomplete, cancellationToken))
        {
            await walk.WalkAsync(info, forgottenMs > 0, cancellationToken);
        }
    }

    private async ValueTask HealAsync(RecordKind kind, Id16 scope, ushort idGeneration, RecordHeader[] wanted, CancellationToken cancellationToken)
    {
        await using var session = begin(scope, idGeneration);
        var lane = session.OpenLane(kind);
        var batch = new List<(HealedRecord Name, ReadOnlyMemory<byte> Record, string Source)>();
        foreach (var header in wanted)
        {
            if (await FetchAsync(header, cancellationToken) is not { } found)
            {
                _missing++;
                continue;
            }
            batch.Add((new HealedRecord(kind, header.Id, scope), found.Record, found.Source));
            if (batch.Sum(static fetched => (long)fetched.Record.Length) >= BatchBytes)
            {
                await StoreAsync(lane, batch, cancellationToken);
            }
        }
        await StoreAsync(lane, batch, cancellationToken);
    }

    /// <summary>Makes what was fetched durable, and empties the batch.</summary>
    private async ValueTask StoreAsync(IngestLane lane, List<(HealedRecord Name, ReadOnlyMemory<byte> Record, string Source)> batch, CancellationToken cancellationToken)
    {
        var (start, durable) = (lane.AppendedOffset, lane.AppendedOffset);
        for (var tries = 0; ; tries++)
        {
            try
            {
                var end = start;
                foreach (var fetched in batch)
                {
                    end += fetched.Record.Length;
                    if (end > durable)
                    {
                        await lane.AppendAsync(fetched.Record, cancellationToken);
                    }
                }
                await lane.FlushAsync(cancellationToken);
                break;
            }
            catch (FaultException fault) when (fault.Reason == FaultReason.Unavailable && tries == 0)
            {
                // A damaged pack was in the way, and is not any more. Nothing is asked for again.
                durable = await lane.RewindAsync(cancellationToken);
            }
        }
        _healed.AddRange(batch.Take(HealReport.ListedMax - _healed.Count).Select(static fetched => (fetched.Name, fetched.Source)));
        _healedCount += batch.Count;
        batch.Clear();
    }

    private async ValueTask<(ReadOnlyMemory<byte> Record, string Source)?> FetchAsync(RecordHeader wanted, CancellationToken cancellationToken)
    {
        foreach (var source in sources)
        {
            try
            {
                if (await source.FetchAsync(wanted.Kind, wanted.Id, wanted.Scope, cancellationToken) is { } record && await IsSoundAsync(wanted, record, cancellationToken))
                {
                    return (record, source.Name);
                }
            }
            catch (FaultException)
            {
                // The next one may have it.
            }
        }
        return null;
    }

    private async ValueTask<bool> IsSoundAsync(RecordHeader wanted, ReadOnlyMemory<byte> record, CancellationToken cancellationToken)
    {
        if (!RecordHeader.TryParse(record.Span, out var header) || header.RecordLength != record.Length)
        {
            return false;
        }
        // The same chunk may have been packed with another nonce, or longer.
        if (header with { Codec = wanted.Codec, SealedLength = wanted.SealedLength } != wanted)
        {
            return false;
        }
        if (header.Kind == RecordKind.Map)
        {
            return NodeId.Compute(record.Span[RecordHeader.Size..]) == header.Id;
        }
        // Nothing unproven may take the place of what is lost, or of what may be sound.
        if (opener is null || !_named.TryGetValue((header.Id, header.Scope), out var name))
        {
            return false;
        }
        await opener.OpenAsync(name.Vm, name.Entry, record, cancellationToken);
        return true;
    }
}
