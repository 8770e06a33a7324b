using System.Buffers;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Collection;

/// <summary>
/// Writes packs anew that are dead to a good part: what lives is copied byte for byte into new packs, which are durable
/// before one transaction moves the index from the old places to the new ones. Pinned and young records move too. A pack
/// whose bytes do not hash to its name is left as it is, for repair. Holds one record and one staged pack of each kind.
/// </summary>
internal sealed class RepackStage(CollectionRun run)
{
    private readonly Dictionary<RecordKind, Target> _targets = [];
    private readonly Pace _pace = new(run.Clock, run.Options.BytesPerSecond);

    public async ValueTask RunAsync(CancellationToken cancellationToken)
    {
        try
        {
            var numbers = await run.Index.ReadAsync(connection => PackTable.ListToRepack(connection, run.Options.RepackDeadPercent), cancellationToken);
            run.Report = run.Report with { RowsRead = run.Report.RowsRead + numbers.Count };
            foreach (var number in numbers)
            {
                if (await run.Index.ReadAsync(connection => PackTable.Find(connection, number), cancellationToken) is { State: PackState.Live } pack)
                {
                    await RepackAsync(pack, cancellationToken);
                }
            }
            foreach (var target in _targets.Values)
            {
                await PublishAsync(target, cancellationToken);
            }
        }
        finally
        {
            foreach (var target in _targets.Values)
            {
                await target.Pack.DisposeAsync();
            }
        }
    }

    private async ValueTask RepackAsync(PackRow pack, CancellationToken cancellationToken)
    {
        var key = ObjectKeys.Pack(pack.Hash);
        if (run.IsDryRun)
        {
            Count(pack, pack.Bytes - pack.DeadBytes);
            return;
        }
        PackEntry[] entries;
        try
        {
            // Damage must not come back under a name that calls it sound.
            var hash = await PackReader.HashAsync(run.Store, key, pack.Bytes, cancellationToken);
            run.Report = run.Report with { BytesRead = run.Report.BytesRead + pack.Bytes };
            await _pace.SpendAsync(pack.Bytes, cancellationToken);
            if (hash != pack.Hash)
            {
                run.AddProblem($"The pack {key} is damaged and is not written anew: its bytes do not hash to its name.");
                return;
            }
            entries = (await PackReader.ReadFooterAsync(run.Store, new ObjectInfo(key, pack.Bytes), cancellationToken)).Entries.ToArray();
        }
        catch (FaultException fault) when (fault.Reason is FaultReason.NotFound or FaultReason.Malformed or FaultReason.Corrupt)
        {
            run.AddProblem($"The pack {key} cannot be read and is not written anew: {fault.Message}");
            return;
        }
        Array.Sort(entries, static (left, right) => left.Offset.CompareTo(right.Offset));
        var alive = await run.Index.ReadAsync(connection => Array.FindAll(entries, entry => CandidateTable.HasRow(connection, entry.Header, pack.Number)), cancellationToken);
        run.Report = run.Report with { RowsRead = run.Report.RowsRead + entries.Length };
        long bytes = 0;
        foreach (var entry in alive)
        {
            await CopyAsync(pack, key, entry, cancellationToken);
            bytes += entry.Header.RecordLength;
        }
        Count(pack, bytes);
    }

    private void Count(PackRow pack, long bytes) => run.Report = run.Report with
    {
        PacksRepacked = run.Report.PacksRepacked + 1, BytesRepacked = run.Report.BytesRepacked + bytes, RowsRead = run.Report.RowsRead + pack.Records,
    };

    private async ValueTask CopyAsync(PackRow pack, string key, PackEntry entry, CancellationToken cancellationToken)
    {
        if (!_targets.TryGetValue(pack.Kind, out var target))
        {
            _targets.Add(pack.Kind, target = new Target(await StagedPack(pack.Kind, cancellationToken)));
        }
        var header = entry.Header;
        target.CreatedMs = Math.Max(target.CreatedMs, pack.CreatedMs);
        if (target.Pack.Contains(header))
        {
            target.Moves.Add(new RecordMove(entry, pack.Number, IsCopied: false));
            return;
        }
        var buffer = ArrayPool<byte>.Shared.Rent(header.RecordLength);
        try
        {
            var record = buffer.AsMemory(0, header.RecordLength);
            await run.Store.ReadExactlyAsync(key, entry.Offset, record, cancellationToken);
            run.Report = run.Report with { BytesRead = run.Report.BytesRead + record.Length };
            await _pace.SpendAsync(record.Length, cancellationToken);
            if (RecordHeader.Parse(record.Span) != header)
            {
                throw FaultException.Corrupt($"The pack {key} holds another record at byte {entry.Offset} than its footer says.");
            }
            var offset = checked((uint)target.Pack.RecordBytes);
            await target.Pack.AppendAsync(record, cancellationToken);
            target.Pack.Complete(header);
            target.Moves.Add(new RecordMove(new PackEntry(header, offset), pack.Number, IsCopied: true));
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
        if (target.Pack.RecordBytes >= run.PackBytesTarget || target.Pack.Count >= Limits.PackRecordsMax)
        {
            _targets.Remove(pack.Kind);
            await using var full = target.Pack;
            await PublishAsync(target, cancellationToken);
        }
    }

    private async ValueTask PublishAsync(Target target, CancellationToken cancellationToken)
    {
        if (target.Moves.Count == 0)
        {
            return;
        }
        var stored = await target.Pack.PublishAsync(cancellationToken);
        await run.ChangeAsync(
            connection =>
            {
                ObjectTable.MoveInto(connection, stored, target.Moves, run.Owner.Generation, target.CreatedMs);
                return true;
            },
            cancellationToken);
    }

    private ValueTask<Ingest.StagedPack> StagedPack(RecordKind kind, CancellationToken cancellationToken) =>
        Ingest.StagedPack.CreateAsync(run.Store, kind, cancellationToken);

    private sealed class Target(Ingest.StagedPack pack)
    {
        public Ingest.StagedPack Pack => pack;

        public List<RecordMove> Moves { get; } = [];

        public long CreatedMs { get; set; }
    }
}
