using System.Buffers;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Ingest;
using VirtBackup.Repository.Verification;

namespace VirtBackup.Repository.Scrubbing;

/// <summary>What became of a damaged pack.</summary>
/// <param name="Lost">Records in quarantine: no sound copy is known.</param>
/// <param name="Doubtful">Records that stay where they are, because without keys nobody knows which of them are damaged.</param>
/// <param name="Saved">Records that were copied into a new pack.</param>
/// <param name="Covered">Damaged records that have another copy.</param>
internal readonly record struct RepairOutcome(long Lost, long Doubtful, long Saved, long Covered);

/// <summary>
/// Takes a damaged pack out of use. What is proven sound is copied byte for byte into a new pack; what is not, and has no
/// other copy, goes into quarantine: its row and its counts stay, it answers no probe, and all nodes above it are complete
/// no longer. The order: marks go, the new pack is durable, then one transaction moves the rows. A crash before it leaves
/// marks to be made again, and the damage to be found again.
/// </summary>
/// <remarks>Its caller lets no collection run, and no point change: commits wait.</remarks>
internal sealed class PackRepair(IObjectStore store, IDatabase index, long generation, TimeProvider clock, IChunkOpener? opener)
{
    private const int MarksPerTransaction = 4096;

    public async ValueTask<RepairOutcome> RunAsync(PackRow pack, string problem, CancellationToken cancellationToken)
    {
        var autopsy = await PackAutopsy.ExamineAsync(store, index, pack, cancellationToken);
        // The only record of a pack is in quarantine for a moment, sound or not.
        var damaged = autopsy.Lost.Concat(autopsy.Doubtful).Concat(pack.Records == 1 ? autopsy.Sound : []).ToList();
        var trace = new AncestorTrace(store, index);
        var above = await trace.FindAsync(IdsOf(damaged, RecordKind.Data), IdsOf(damaged, RecordKind.Map), pack.Number, autopsy.Nodes, cancellationToken);
        await RemoveMarksAsync(trace.IsWhole ? above : null, cancellationToken);
        if (opener is not null)
        {
            await OpenAsync(pack, autopsy, cancellationToken);
            // What nothing refers to cannot be opened, and nobody misses it.
            autopsy.Lost.AddRange(autopsy.Doubtful.Where(static record => record.Count == 0));
            autopsy.Doubtful.RemoveAll(static record => record.Count == 0);
        }
        var covered = await FindCoveredAsync(autopsy.Doubtful, pack.Number, cancellationToken);
        autopsy.Lost.AddRange(autopsy.Doubtful.Where(record => covered.Contains((record.Header.Id, record.Header.Scope))));
        autopsy.Doubtful.RemoveAll(record => covered.Contains((record.Header.Id, record.Header.Scope)));
        await using var target = autopsy.Sound.Count > 0 && autopsy.Doubtful.Count == 0 ? await StagedPack.CreateAsync(store, pack.Kind, cancellationToken) : null;
        var roots = trace.IsWhole ? above : null;
        if (target is not null && pack.Records == 1)
        {
            return await ReplaceAsync(pack, problem, autopsy, target, roots, cancellationToken);
        }
        var copied = target is null ? ((StoredPack, List<RecordMove>)?)null : await CopyAsync(pack, autopsy.Sound, target, cancellationToken);
        return await index.WriteAsync(connection => Apply(connection, pack, problem, autopsy, copied, roots), CancellationToken.None);
    }

    /// <summary>
    /// The one record of the pack is sound, so that the sound pack has the damaged one's name, and cannot be there beside it.
    /// </summary>
    private async ValueTask<RepairOutcome> ReplaceAsync(
        PackRow pack, string problem, PackAutopsy autopsy, StagedPack target, IReadOnlySet<Id32>? above, CancellationToken cancellationToken)
    {
        await AppendAsync(pack, autopsy.Sound, target, cancellationToken);
        autopsy.Lost.AddRange(autopsy.Sound);
        await index.WriteAsync(connection => Apply(connection, pack, problem, autopsy, copied: null, above), CancellationToken.None);
        await store.DeleteAsync(ObjectKeys.Pack(pack.Hash), CancellationToken.None);
        var stored = await target.PublishAsync(CancellationToken.None);
        var now = clock.GetUtcNow().ToUnixTimeMilliseconds();
        await index.WriteAsync(
            connection =>
            {
                ObjectTable.AddPack(connection, stored, generation, pack.CreatedMs);
                DamageTable.Settle(connection, now);
            },
            CancellationToken.None);
        return new RepairOutcome(0, 0, 1, 0);
    }

    private static HashSet<Id32> IdsOf(List<IndexedRecord> records, RecordKind kind) =>
        records.Where(record => record.Header.Kind == kind).Select(static record => record.Header.Id).ToHashSet();

    /// <summary>Of these records, the ones that another pack holds, too: one whose bytes hash to its name at this moment.</summary>
    private async ValueTask<HashSet<(Id32, Id16)>> FindCoveredAsync(List<IndexedRecord> records, long pack, CancellationToken cancellationToken)
    {
        var others = await index.ReadAsync(
            connection =>
            {
                using var find = connection.Prepare(
                    """
                    SELECT p.number, p.hash, p.bytes FROM object o JOIN scope s ON s.number = o.scope JOIN pack p ON p.number = o.pack
                    WHERE o.id = ?1 AND o.kind = ?2 AND s.id = ?3 AND o.pack > 0 AND o.pack <> ?4 LIMIT 1
                    """);
                find.Bind(4, pack);
                var found = new List<((Id32, Id16) Name, long Number, Id32 Hash, long Bytes)>();
                foreach (var record in records)
                {
                    if (find.Bind(1, record.Header.Id).Bind(2, (long)record.Header.Kind).Bind(3, record.Header.Scope).Step())
                    {
                        found.Add(((record.Header.Id, record.Header.Scope), find.GetInt64(0), find.GetId32(1), find.GetInt64(2)));
                    }
                    find.Reset();
                }
                return found;
            },
            cancellationToken);
        var covered = new HashSet<(Id32, Id16)>();
        foreach (var other in others.GroupBy(static row => (row.Number, row.Hash, row.Bytes)))
        {
            try
            {
                if (await PackReader.HashAsync(store, ObjectKeys.Pack(other.Key.Hash), other.Key.Bytes, cancellationToken) == other.Key.Hash)
                {
                    covered.UnionWith(other.Select(static row => row.Name));
                }
            }
            catch (FaultException fault) when (IncompleteWalk.IsDamage(fault) || fault.Reason == FaultReason.Unavailable)
            {
                // Then it covers nothing.
            }
        }
        return covered;
    }

    /// <param name="nodes">Null: all.</param>
    /// <param name="cancellationToken">Stops between transactions; marks that went are made again.</param>
    private async ValueTask RemoveMarksAsync(IReadOnlyCollection<Id32>? nodes, CancellationToken cancellationToken)
    {
        if (nodes is null)
        {
            await index.WriteAsync(static connection => connection.Execute("DELETE FROM complete_node"), cancellationToken);
            return;
        }
        foreach (var part in nodes.Chunk(MarksPerTransaction))
        {
            await index.WriteAsync(connection => Array.ForEach(part, node => CompleteNodeTable.Remove(connection, node)), cancellationToken);
        }
    }

    /// <summary>
    /// Opens every doubtful record that a point names, and sorts it by what comes out. What is left could not be tried: no
    /// point names it, a map node above it cannot be read, or its key object is damaged.
    /// </summary>
    private async ValueTask OpenAsync(PackRow pack, PackAutopsy autopsy, CancellationToken cancellationToken)
    {
        var doubtful = autopsy.Doubtful.ToDictionary(static record => (record.Header.Id, record.Header.Scope));
        // A damaged key object must not make a sound chunk a damaged one.
        var keys = new KeyObjectVerifier(store, new DamageLog());
        var walk = new IncompleteWalk(store, index)
        {
            Leaf = async (at, leaf, token) =>
            {
                for (var i = 0; i < leaf.Count && doubtful.Count > 0; i++)
                {
                    var name = (leaf.IdAt(i), at.Head.Scope);
                    if (!doubtful.TryGetValue(name, out var record) || record.Header.RawLength != leaf.LengthAt(i))
                    {
                        continue;
                    }
                    if (await keys.FindDamageAsync(at.Head.Repository, at.Head.Vm, leaf[i].EpochId, token) is null)
                    {
                        await TryAsync(at.Head.Vm, leaf[i], record, name, token);
                    }
                }
            },
        };
        var (visible, forgotten) = await index.ReadAsync(connection => (PointTable.List(connection, null), PointTable.ListForgotten(connection)), cancellationToken);
        foreach (var (point, isForgotten) in visible.Select(static point => (point, false)).Concat(forgotten.Select(static row => (row.Info, true))))
        {
            if (doubtful.Count > 0)
            {
                await walk.WalkAsync(point, isForgotten, cancellationToken);
            }
        }
        autopsy.Doubtful.RemoveAll(record => !doubtful.ContainsKey((record.Header.Id, record.Header.Scope)));

        async ValueTask TryAsync(Id16 vm, MapEntry entry, IndexedRecord record, (Id32, Id16) name, CancellationToken token)
        {
            var buffer = ArrayPool<byte>.Shared.Rent(record.Header.RecordLength);
            try
            {
                var bytes = buffer.AsMemory(0, record.Header.RecordLength);
                await store.ReadExactlyAsync(ObjectKeys.Pack(pack.Hash), record.Position, bytes, token);
                await opener!.OpenAsync(vm, entry, bytes, token);
                autopsy.Sound.Add(record);
                doubtful.Remove(name);
            }
            catch (FaultException fault) when (fault.Reason is FaultReason.Corrupt or FaultReason.Malformed or FaultReason.Unsupported)
            {
                autopsy.Lost.Add(record);
                doubtful.Remove(name);
            }
            catch (FaultException fault) when (fault.Reason is FaultReason.NotFound or FaultReason.Denied)
            {
                // The key of this machine is missing; another machine may name the chunk, too.
            }
            finally
            {
                ArrayPool<byte>.Shared.Return(buffer);
            }
        }
    }

    private async ValueTask<(StoredPack Pack, List<RecordMove> Moves)> CopyAsync(
        PackRow pack, List<IndexedRecord> records, StagedPack target, CancellationToken cancellationToken)
    {
        var moves = await AppendAsync(pack, records, target, cancellationToken);
        return (await target.PublishAsync(cancellationToken), moves);
    }

    private async ValueTask<List<RecordMove>> AppendAsync(PackRow pack, List<IndexedRecord> records, StagedPack target, CancellationToken cancellationToken)
    {
        var moves = new List<RecordMove>(records.Count);
        // In their order all of them would make a pack of the damaged one's name.
        var isAll = records.Count == pack.Records;
        foreach (var record in records.OrderBy(record => isAll ? -record.Position : record.Position))
        {
            var buffer = ArrayPool<byte>.Shared.Rent(record.Header.RecordLength);
            try
            {
                var bytes = buffer.AsMemory(0, record.Header.RecordLength);
                await store.ReadExactlyAsync(ObjectKeys.Pack(pack.Hash), record.Position, bytes, cancellationToken);
                if (RecordHeader.Parse(bytes.Span) != record.Header)
                {
                    throw new FaultException(FaultReason.Unavailable, $"The pack {ObjectKeys.Pack(pack.Hash)} reads differently each time: check its device.");
                }
                var offset = checked((uint)target.RecordBytes);
                await target.AppendAsync(bytes, cancellationToken);
                target.Complete(record.Header);
                moves.Add(new RecordMove(new PackEntry(record.Header, offset), pack.Number, IsCopied: true));
            }
            finally
            {
                ArrayPool<byte>.Shared.Return(buffer);
            }
        }
        return moves;
    }

    private RepairOutcome Apply(
        ISqlConnection connection, PackRow pack, string problem, PackAutopsy autopsy, (StoredPack Pack, List<RecordMove> Moves)? copied, IReadOnlySet<Id32>? above)
    {
        var now = clock.GetUtcNow().ToUnixTimeMilliseconds();
        var (lost, doubtful, coveredCount) = (0L, 0L, 0L);
        UnlocatedTable.ClearDoubt(connection, pack.Number);
        if (copied is { } copy)
        {
            ObjectTable.MoveInto(connection, copy.Pack, copy.Moves, generation, pack.CreatedMs);
        }
        foreach (var record in autopsy.Lost)
        {
            var isLost = UnlocatedTable.Quarantine(connection, record.Header, pack.Number);
            (lost, coveredCount) = isLost ? (lost + 1, coveredCount) : (lost, coveredCount + 1);
        }
        foreach (var record in autopsy.Doubtful)
        {
            var isAlone = UnlocatedTable.Doubt(connection, record.Header, pack.Number);
            (doubtful, coveredCount) = isAlone ? (doubtful + 1, coveredCount) : (doubtful, coveredCount + 1);
        }
        if (autopsy.IsMissing)
        {
            PackTable.Remove(connection, pack.Number);
        }
        else if (!PackTable.TryTrash(connection, pack.Number, now))
        {
            PackTable.SetChecked(connection, pack.Number, now);
        }
        PointTable.MarkDamaged(connection, above);
        DamageTable.Put(connection, new DamageRow(pack.Number, pack.Hash, problem, lost + doubtful, now, lost + doubtful == 0 ? Math.Max(1, now) : 0));
        return new RepairOutcome(lost, doubtful, copied?.Moves.Count ?? 0, coveredCount);
    }
}
