using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Ingest;
using VirtBackup.Repository.Points;

namespace VirtBackup.Repository.Collection;

/// <summary>
/// Writes packs anew that are dead to a good part: what lives is copied byte for byte into new packs, which are durable
/// before one transaction moves the index from the old places to the new ones. Pinned and young records move too. A pack
/// whose bytes do not hash to its name is left as it is, for repair: it is read once, and what was hashed is what is copied.
/// Holds one pack that is read, and one staged pack of each kind.
/// </summary>
internal sealed class RepackStage(CollectionRun run)
{
    private readonly Dictionary<RecordKind, Target> _targets = [];
    private readonly Pace _pace = new(run.Clock, run.Options.BytesPerSecond);
    private byte[] _pack = [];

    public async ValueTask RunAsync(CancellationToken cancellationToken)
    {
        try
        {
            var numbers = await run.Index.ReadAsync(connection => PackTable.ListToRepack(connection, run.Options.RepackDeadPercent), cancellationToken);
            run.Report = run.Report with { RowsRead = run.Report.RowsRead + numbers.Count };
            foreach (var number in numbers)
            {
                if (await run.Index.ReadAsync(connection => PackTable.Find(connection, number), cancellationToken) is { State: PackState.Live } pack
                    && !await PointRetention.IsRetainedAsync(run.Store, run.Index, ObjectKeys.Pack(pack.Hash), run.NowMs, cancellationToken))
                {
                    await RepackAsync(pack, cancellationToken);
                }
            }
            foreach (var target in _targets.Values)
            {
                await PublishAsync(target, cancellationToken);
            }
        }
        catch (FaultException full) when (full.Reason == FaultReason.DeviceFull)
        {
            run.AddProblem($"Packs with dead records are not written anew, because the device is full: {full.Message}");
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
        if (run.IsDryRun)
        {
            Count(pack, pack.Bytes - pack.DeadBytes);
            return;
        }
        if (await ReadAsync(pack, cancellationToken) is not { } entries)
        {
            return;
        }
        Array.Sort(entries, static (left, right) => left.Offset.CompareTo(right.Offset));
        var alive = await run.Index.ReadAsync(connection => Array.FindAll(entries, entry => CandidateTable.HasRow(connection, entry.Header, pack.Number)), cancellationToken);
        run.Report = run.Report with { RowsRead = run.Report.RowsRead + entries.Length };
        foreach (var entry in alive)
        {
            await CopyAsync(pack, entry, cancellationToken);
        }
        Count(pack, alive.Sum(static entry => (long)entry.Header.RecordLength));
    }

    /// <summary>Reads a pack whole and proves it by its name; null: it is left alone.</summary>
    private async ValueTask<PackEntry[]?> ReadAsync(PackRow pack, CancellationToken cancellationToken)
    {
        var key = ObjectKeys.Pack(pack.Hash);
        if (_pack.Length < pack.Bytes)
        {
            _pack = GC.AllocateUninitializedArray<byte>(checked((int)pack.Bytes));
        }
        var bytes = _pack.AsMemory(0, (int)pack.Bytes);
        try
        {
            await run.Store.ReadExactlyAsync(key, 0, bytes, cancellationToken);
            run.Report = run.Report with { BytesRead = run.Report.BytesRead + bytes.Length };
            await _pace.SpendAsync(bytes.Length, cancellationToken);
            if (Id32.Read(SHA256.HashData(bytes.Span)) != pack.Hash)
            {
                run.AddProblem($"The pack {key} is damaged and is not written anew: its bytes do not hash to its name.");
                return null;
            }
            return PackFooter.Parse(bytes.Span, pack.Bytes).Entries.ToArray();
        }
        catch (FaultException fault) when (fault.Reason is FaultReason.NotFound or FaultReason.Malformed or FaultReason.Corrupt or FaultReason.Unavailable)
        {
            // One bad place of the device, unless the store is gone altogether.
            await run.Owner.RequireAsync(cancellationToken);
            run.AddProblem($"The pack {key} cannot be read and is not written anew: {fault.Message}");
            return null;
        }
    }

    private void Count(PackRow pack, long bytes) => run.Report = run.Report with
    {
        PacksRepacked = run.Report.PacksRepacked + 1, BytesRepacked = run.Report.BytesRepacked + bytes, RowsRead = run.Report.RowsRead + pack.Records,
    };

    private async ValueTask CopyAsync(PackRow pack, PackEntry entry, CancellationToken cancellationToken)
    {
        var header = entry.Header;
        if (_targets.TryGetValue(pack.Kind, out var target) && target.Pack.IsFullFor(header) && !target.Pack.Contains(header))
        {
            await CloseAsync(pack.Kind, target, cancellationToken);
            target = null;
        }
        if (target is null)
        {
            _targets[pack.Kind] = target = new Target(await StagedPack.CreateAsync(run.Store, pack.Kind, cancellationToken));
        }
        target.CreatedMs = Math.Max(target.CreatedMs, pack.CreatedMs);
        if (target.Pack.Contains(header))
        {
            target.Moves.Add(new RecordMove(entry, pack.Number, IsCopied: false));
        }
        else
        {
            var offset = checked((uint)target.Pack.RecordBytes);
            await target.Pack.AppendAsync(_pack.AsMemory((int)entry.Offset, header.RecordLength), cancellationToken);
            target.Pack.Complete(header);
            target.Moves.Add(new RecordMove(new PackEntry(header, offset), pack.Number, IsCopied: true));
        }
        if (target.Pack.RecordBytes >= run.PackBytesTarget || target.Moves.Count >= Limits.PackRecordsMax)
        {
            await CloseAsync(pack.Kind, target, cancellationToken);
        }
    }

    private async ValueTask CloseAsync(RecordKind kind, Target target, CancellationToken cancellationToken)
    {
        _targets.Remove(kind);
        await using var full = target.Pack;
        await PublishAsync(target, cancellationToken);
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
                // A lock may have come since the pack was read.
                var staying = target.Moves.Select(static move => move.Source).Distinct()
                    .Where(number => PackTable.FindHash(connection, number) is { } hash && RetentionTable.IsWanted(connection, ObjectKeys.Pack(hash), run.NowMs)).ToHashSet();
                ObjectTable.MoveInto(connection, stored, target.Moves, run.Owner.Generation, target.CreatedMs, staying);
                return true;
            },
            cancellationToken);
    }

    private sealed class Target(StagedPack pack)
    {
        public StagedPack Pack => pack;

        public List<RecordMove> Moves { get; } = [];

        public long CreatedMs { get; set; }
    }
}
