using System.Buffers;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Ingest;

namespace VirtBackup.Repository.Scrubbing;

/// <summary>What became of a damaged pack.</summary>
/// <param name="Lost">Records in quarantine: no sound copy is known.</param>
/// <param name="Doubtful">Records that stay where they are, because without keys nobody knows which of them are damaged.</param>
/// <param name="Saved">Records that were copied into a new pack.</param>
/// <param name="Covered">Damaged records that have another copy.</param>
internal readonly record struct RepairOutcome(long Lost, long Doubtful, long Saved, long Covered);

/// <summary>A damaged pack.</summary>
/// <param name="Pack">Its row.</param>
/// <param name="Problem">What is wrong with it, for people.</param>
/// <param name="Autopsy">What is left of it.</param>
internal sealed record Patient(PackRow Pack, string Problem, PackAutopsy Autopsy);

/// <summary>
/// Takes damaged packs out of use. What is proven sound is copied byte for byte into a new pack; what is not, and has no
/// other copy, goes into quarantine: its row and its counts stay, it answers no probe, and all nodes above it are complete
/// no longer. The order: marks go, the new pack is durable, then one transaction moves the rows. A crash before it leaves
/// marks to be made again, and the damage to be found again. Where there is no room for a new pack, sound records stay.
/// </summary>
/// <remarks>Its caller lets no collection run, and no point change: commits wait.</remarks>
/// <param name="deleting">Between deleting and relying.</param>
/// <param name="generation">Of the owner.</param>
/// <param name="opener">Null: no chunk can be proven.</param>
internal sealed class PackRepair(IObjectStore store, IDatabase index, Gate deleting, long generation, TimeProvider clock, IChunkOpener? opener)
{
    private const int MarksPerTransaction = 4096;

    /// <summary>Finds all nodes above what may be damaged in any of the packs, and takes them for complete no longer.</summary>
    /// <returns>These nodes; null: nobody knows which, so all there are.</returns>
    public async ValueTask<IReadOnlySet<Id32>?> UnmarkAsync(IReadOnlyList<Patient> patients, CancellationToken cancellationToken)
    {
        var damaged = patients.SelectMany(static patient => patient.Autopsy.Lost.Concat(patient.Autopsy.Doubtful).Concat(patient.Autopsy.Unreadable)).ToList();
        var trace = new AncestorTrace(store, index);
        var above = await trace.FindAsync(
            IdsOf(damaged, RecordKind.Data), IdsOf(damaged, RecordKind.Map), patients.Select(static patient => patient.Pack.Number).ToHashSet(),
            [.. patients.SelectMany(static patient => patient.Autopsy.Nodes)], cancellationToken);
        await RemoveMarksAsync(trace.IsWhole ? above : null, cancellationToken);
        return trace.IsWhole ? above : null;
    }

    /// <param name="patient">One of those that <see cref="UnmarkAsync"/> was called with.</param>
    /// <param name="above">What it returned.</param>
    /// <param name="cancellationToken">Stops before anything moves.</param>
    public async ValueTask<RepairOutcome> RunAsync(Patient patient, IReadOnlySet<Id32>? above, CancellationToken cancellationToken)
    {
        var (pack, _, autopsy) = patient;
        if (opener is not null)
        {
            await new ChunkTrial(store, index, pack, opener).RunAsync(autopsy, cancellationToken);
            // What nothing refers to cannot be opened, and nobody misses it.
            Lose(autopsy, static record => record.Count == 0);
        }
        var covered = await FindCoveredAsync(autopsy.Doubtful, pack.Number, cancellationToken);
        Lose(autopsy, record => covered.Contains((record.Header.Id, record.Header.Scope)));
        try
        {
            if (autopsy.Sound.Count > 0 && autopsy.Doubtful.Count + autopsy.Unreadable.Count == 0)
            {
                return await SaveAsync(patient, above, cancellationToken);
            }
        }
        catch (FaultException fault) when (fault.Reason is FaultReason.DeviceFull or FaultReason.Denied)
        {
            // To take out of use what is lost needs no room. What is sound stays where it is.
        }
        return await index.WriteAsync(connection => Apply(connection, patient, above, copied: null), CancellationToken.None);
    }

    private static void Lose(PackAutopsy autopsy, Predicate<IndexedRecord> which)
    {
        autopsy.Lost.AddRange(autopsy.Doubtful.FindAll(which));
        autopsy.Doubtful.RemoveAll(which);
    }

    /// <summary>Copies what is sound, all of which is known, and takes the rest out of use.</summary>
    private async ValueTask<RepairOutcome> SaveAsync(Patient patient, IReadOnlySet<Id32>? above, CancellationToken cancellationToken)
    {
        var (pack, sound) = (patient.Pack, patient.Autopsy.Sound);
        await using var target = await StagedPack.CreateAsync(store, pack.Kind, cancellationToken);
        var moves = await AppendAsync(pack, sound, target, cancellationToken);
        if (pack.Records > 1)
        {
            var stored = await target.PublishAsync(cancellationToken);
            return await index.WriteAsync(connection => Apply(connection, patient, above, new Copied(stored, moves, pack.CreatedMs)), CancellationToken.None);
        }
        if (await new PackCompanion(store, index).FindAsync(pack, sound[0].Record.Header, cancellationToken) is not { } companion)
        {
            return await ReplaceAsync(patient, above, target, cancellationToken);
        }
        await target.AppendAsync(companion.Bytes, cancellationToken);
        target.Complete(companion.Header);
        var both = new Copied(await target.PublishAsync(cancellationToken), Moves: null, Math.Max(pack.CreatedMs, companion.CreatedMs));
        return await index.WriteAsync(connection => Apply(connection, patient, above, both), CancellationToken.None);
    }

    /// <summary>
    /// The one record of the pack is sound, and there is no other to lie beside it: the sound pack has the damaged one's name,
    /// and cannot be there beside it. All its bytes are written before the damaged ones go. The index is right about both.
    /// </summary>
    private async ValueTask<RepairOutcome> ReplaceAsync(Patient patient, IReadOnlySet<Id32>? above, StagedPack target, CancellationToken cancellationToken)
    {
        var pack = patient.Pack;
        await target.FinishAsync(cancellationToken);
        // Nobody may be told of the record, or find its name taken or free, until it is there again.
        using var closed = await deleting.CloseAsync(cancellationToken);
        await store.DeleteAsync(ObjectKeys.Pack(pack.Hash), CancellationToken.None);
        Check.That((await target.PublishAsync(CancellationToken.None)).Hash == pack.Hash);
        var now = clock.GetUtcNow().ToUnixTimeMilliseconds();
        await index.WriteAsync(
            connection =>
            {
                UnlocatedTable.ClearDoubt(connection, pack.Number);
                PackTable.SetProven(connection, pack.Number, now);
                PointTable.MarkDamaged(connection, above);
                DamageTable.Put(connection, new DamageRow(pack.Number, pack.Hash, patient.Problem, 0, now, Math.Max(1, now)));
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
            catch (FaultException fault) when (StoreHealth.IsDamage(fault) || StoreHealth.IsUnreadable(fault))
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

    private async ValueTask<List<RecordMove>> AppendAsync(PackRow pack, List<ProvenRecord> records, StagedPack target, CancellationToken cancellationToken)
    {
        var moves = new List<RecordMove>(records.Count);
        var reader = new PackRecordReader(store, pack);
        // In their order all of them would make a pack of the damaged one's name.
        var isAll = records.Count == pack.Records;
        foreach (var (record, hash) in records.OrderBy(proven => isAll ? -proven.Record.Position : proven.Record.Position))
        {
            var buffer = ArrayPool<byte>.Shared.Rent(record.Header.RecordLength);
            try
            {
                var bytes = buffer.AsMemory(0, record.Header.RecordLength);
                // What was proven is what is copied.
                await reader.RequireSameAsync(record, hash, bytes, cancellationToken);
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

    private RepairOutcome Apply(ISqlConnection connection, Patient patient, IReadOnlySet<Id32>? above, Copied? copied)
    {
        var (pack, _, autopsy) = patient;
        var now = clock.GetUtcNow().ToUnixTimeMilliseconds();
        var (lost, doubtful, coveredCount) = (0L, 0L, 0L);
        UnlocatedTable.ClearDoubt(connection, pack.Number);
        if (copied?.Moves is { } moves)
        {
            ObjectTable.MoveInto(connection, copied.Pack, moves, generation, copied.CreatedMs);
        }
        else if (copied is not null)
        {
            // The companion keeps its place, too.
            ObjectTable.AddPack(connection, copied.Pack, generation, copied.CreatedMs);
            autopsy.Sound.ForEach(proven => UnlocatedTable.Quarantine(connection, proven.Record.Header, pack.Number));
        }
        foreach (var record in autopsy.Lost)
        {
            var isLost = UnlocatedTable.Quarantine(connection, record.Header, pack.Number);
            (lost, coveredCount) = isLost ? (lost + 1, coveredCount) : (lost, coveredCount + 1);
        }
        foreach (var record in autopsy.Doubtful.Concat(autopsy.Unreadable))
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
        DamageTable.Put(connection, new DamageRow(pack.Number, pack.Hash, patient.Problem, lost + doubtful, now, lost + doubtful == 0 ? Math.Max(1, now) : 0));
        return new RepairOutcome(lost, doubtful, copied is null ? 0 : autopsy.Sound.Count, coveredCount);
    }

    /// <param name="Pack">A new pack, durable.</param>
    /// <param name="Moves">What moves into it; null: everything in it gets one more location.</param>
    /// <param name="CreatedMs">The youngest source's.</param>
    private sealed record Copied(StoredPack Pack, List<RecordMove>? Moves, long CreatedMs);
}
