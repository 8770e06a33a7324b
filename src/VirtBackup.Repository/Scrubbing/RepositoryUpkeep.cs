using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Ingest;
using VirtBackup.Repository.Points;
using VirtBackup.Repository.Verification;

namespace VirtBackup.Repository.Scrubbing;

/// <summary>
/// Proves over and over that what is stored is still what was stored, takes what is not out of use, and heals it. Backups,
/// restores and collections go on meanwhile. Safe for concurrent use. Times are Unix milliseconds.
/// </summary>
public sealed class RepositoryUpkeep : IDisposable
{
    private readonly IObjectStore _store;
    private readonly IDatabase _index;
    private readonly TimeProvider _clock;
    private readonly Ownership _owner;
    private readonly RepositoryHead _head;
    private readonly PointKeeper _points;
    private readonly PackIndexer _indexer;
    private readonly Gate _changingPoints;
    private readonly Gate _collecting;
    private readonly SharedGate _marking;
    private readonly Gate _scrubbing = new();
    private readonly Func<Id16, ushort, IngestSession> _begin;

    internal RepositoryUpkeep(UpkeepParts parts)
    {
        (_store, _index, _clock, _owner, _head) = (parts.Store, parts.Index, parts.Clock, parts.Owner, parts.Head);
        (_points, _indexer, _changingPoints, _collecting, _marking, _begin) = (parts.Points, parts.Indexer, parts.ChangingPoints, parts.Collecting, parts.Marking, parts.Begin);
    }

    /// <summary>Told of records that had no sound copy and got one by an upload. Set once, before the first call.</summary>
    public Action<IReadOnlyList<HealedRecord>>? Healed
    {
        get => _indexer.Healed;
        set => _indexer.Healed = value;
    }

    /// <summary>
    /// Reads packs that are due, the oldest proof first, and takes damaged ones out of use. It can be stopped anywhere, and
    /// the next run goes on. A second run waits for the first.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: the options; the index or the store failed.</exception>
    public async ValueTask<ScrubReport> ScrubAsync(ScrubOptions options, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (options.BytesPerSecond is <= 0 || options.BytesMax is <= 0)
        {
            throw new FaultException(FaultReason.InvalidArgument, "A rate is at least 1 byte per second, and a run reads at least 1 byte.");
        }
        using var scrubbing = await _scrubbing.CloseAsync(cancellationToken);
        return await new PackScrub(_store, _index, _clock, options, (pack, token) => RepairAsync(pack, options.Opener, token)).RunAsync(cancellationToken);
    }

    /// <summary>
    /// Checks everything that is not a pack: the head, wrapped keys, manifests with their signatures, key objects, agents'
    /// keys, locks. Their number is small. Walks no map.
    /// </summary>
    public ValueTask<IReadOnlyList<Damage>> CheckObjectsAsync(IManifestSignatureVerifier signatures, CancellationToken cancellationToken) =>
        new ObjectCheck(_store, _index, _head, signatures, _changingPoints).RunAsync(cancellationToken);

    /// <summary>
    /// Looks for copies of everything that has no sound one, stores them, and looks which points are whole again.
    /// </summary>
    /// <param name="sources">Asked in this order.</param>
    /// <param name="opener">Proves chunks before they are stored; without it, whoever reads them does.</param>
    /// <param name="cancellationToken">Stops between records; what was stored stays.</param>
    public async ValueTask<HealReport> HealAsync(IReadOnlyList<IRecordSource> sources, IChunkOpener? opener, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(sources);
        var report = await new RecordHealer(_store, _index, sources, opener, _begin).RunAsync(cancellationToken);
        await SettleAsync(cancellationToken);
        return report;
    }

    /// <summary>Looks which damaged points are whole again, and which damages are healed. Cheap when there is no damage.</summary>
    /// <returns>Points that are whole again.</returns>
    public async ValueTask<IReadOnlyList<Id16>> SettleAsync(CancellationToken cancellationToken)
    {
        var now = _clock.GetUtcNow().ToUnixTimeMilliseconds();
        if ((await _index.ReadAsync(DamageTable.List, cancellationToken)).Exists(static row => row.HealedMs == 0))
        {
            await _index.WriteAsync(connection => _ = DamageTable.Settle(connection, now), cancellationToken);
        }
        if ((await _index.ReadAsync(PointTable.ListIncomplete, cancellationToken)).Count == 0)
        {
            return [];
        }
        using var changing = await _changingPoints.CloseAsync(cancellationToken);
        var whole = await _points.RecheckAsync(cancellationToken);
        if (whole.Count > 0)
        {
            await _index.WriteAsync(UnlocatedTable.CheckDoubtfulSoon, cancellationToken);
        }
        return whole;
    }

    /// <summary>Damaged packs, the oldest finding first; also those that are healed.</summary>
    public async ValueTask<IReadOnlyList<DamagedPack>> ListDamagesAsync(CancellationToken cancellationToken) =>
        await _index.ReadAsync(
            static connection => DamageTable.List(connection).ConvertAll(row =>
            {
                var (lost, doubtful) = row.HealedMs == 0 ? UnlocatedTable.Count(connection, row.Pack) : default;
                return new DamagedPack(ObjectKeys.Pack(row.Hash), row.Problem, row.Records, lost, doubtful, row.FoundMs, row.HealedMs);
            }),
            cancellationToken);

    /// <summary>Points, visible or forgotten, that lack something.</summary>
    public async ValueTask<IReadOnlyList<RecoveryPointInfo>> ListDamagedPointsAsync(CancellationToken cancellationToken) =>
        await _index.ReadAsync(static connection => PointTable.ListIncomplete(connection).ConvertAll(static row => row.Info), cancellationToken);

    /// <summary>Which bytes of a point are lost or in doubt now; none of a point that is whole. At most <see cref="PointLoss.RunsMax"/> runs.</summary>
    public async ValueTask<IReadOnlyList<PointLoss>> FindLossesAsync(Id16 point, CancellationToken cancellationToken)
    {
        var rows = await _index.ReadAsync(PointTable.ListIncomplete, cancellationToken);
        return rows.Find(row => row.Info.Point == point) is { Info: { } info } row
            ? await new PointLosses(_store, _index).FindAsync(info, row.ForgottenMs > 0, cancellationToken)
            : [];
    }

    /// <summary>How much of the repository is proven since then.</summary>
    public ValueTask<ProofSummary> ReadProofAsync(long sinceMs, CancellationToken cancellationToken) =>
        _index.ReadAsync(
            connection =>
            {
                var (_, all) = PackTable.SumCheckedBefore(connection, long.MaxValue);
                var (_, old) = PackTable.SumCheckedBefore(connection, sinceMs);
                return new ProofSummary(all, all - old, PackTable.FindOldestProof(connection));
            },
            cancellationToken);

    public void Dispose() => _scrubbing.Dispose();

    /// <summary>Looks once more while nothing else deletes or commits, and takes the pack out of use. Null: it is sound, or gone.</summary>
    private async ValueTask<ScrubFinding?> RepairAsync(PackRow found, IChunkOpener? opener, CancellationToken cancellationToken)
    {
        using var collecting = await _collecting.CloseAsync(cancellationToken);
        using var marking = await _marking.CloseAsync(cancellationToken);
        using var changing = await _changingPoints.CloseAsync(cancellationToken);
        if (await _index.ReadAsync(connection => PackTable.Find(connection, found.Number), cancellationToken) is not { State: PackState.Live } pack)
        {
            return null;
        }
        var log = new DamageLog();
        var damage = new PackDamage();
        await new PackVerifier(_store, _index, log, damage).VerifyAsync(pack.Number, pack.Hash, pack.Bytes, cancellationToken);
        var key = ObjectKeys.Pack(pack.Hash);
        if (log.Count == 0 || (damage.Packs.Count + damage.Records.Count == 0 && await PackReader.HashAsync(_store, key, pack.Bytes, cancellationToken) == pack.Hash))
        {
            return null;
        }
        await _owner.RequireAsync(cancellationToken);
        var problem = log.ToList()[0].Problem;
        var outcome = await new PackRepair(_store, _index, _owner.Generation, _clock, opener).RunAsync(pack, problem, cancellationToken);
        await _points.RecheckAsync(cancellationToken);
        return new ScrubFinding(key, problem, outcome.Lost, outcome.Doubtful, outcome.Saved, outcome.Covered);
    }
}

/// <summary>What upkeep is made of; all of it is the repository's.</summary>
internal sealed record UpkeepParts
{
    public required IObjectStore Store { get; init; }
    public required IDatabase Index { get; init; }
    public required TimeProvider Clock { get; init; }
    public required Ownership Owner { get; init; }
    public required RepositoryHead Head { get; init; }
    public required PointKeeper Points { get; init; }
    public required PackIndexer Indexer { get; init; }
    public required Gate ChangingPoints { get; init; }
    public required Gate Collecting { get; init; }

    /// <summary>Entered by whoever marks nodes complete beside changes of points.</summary>
    public required SharedGate Marking { get; init; }

    public required Func<Id16, ushort, IngestSession> Begin { get; init; }
}
