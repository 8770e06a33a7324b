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
    /// <summary>Points that lack something are looked at again after so long also when nothing is known to have changed.</summary>
    private static readonly TimeSpan RecheckEvery = TimeSpan.FromHours(1);

    private readonly UpkeepParts _parts;
    private readonly IObjectStore _store;
    private readonly IDatabase _index;
    private readonly PackIndexer _indexer;
    private readonly Gate _scrubbing = new();
    private long _doubtsCleared;
    private Settled? _settled;

    internal RepositoryUpkeep(UpkeepParts parts) => (_parts, _store, _index, _indexer) = (parts, parts.Store, parts.Index, parts.Indexer);

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
        return await new PackScrub(_store, _index, _parts.Clock, options, new RepairRound(_parts, options.Opener).RunAsync) { DoubtCleared = () => Interlocked.Increment(ref _doubtsCleared) }.RunAsync(cancellationToken);
    }

    /// <summary>Takes packs that are gone out of use: what no other pack holds is lost, until it is found elsewhere or comes again.</summary>
    internal async ValueTask TakeOutAsync(IReadOnlyList<PackRow> packs, CancellationToken cancellationToken)
    {
        if (packs.Count > 0)
        {
            await new RepairRound(_parts, opener: null).RunAsync([.. packs.Select(static pack => new Suspect(pack, IsUnreadable: false))], cancellationToken);
        }
    }

    /// <summary>
    /// Checks everything that is not a pack: the head, wrapped keys, manifests with their signatures, key objects, agents'
    /// keys, locks. Their number is small. Walks no map.
    /// </summary>
    public ValueTask<IReadOnlyList<Damage>> CheckObjectsAsync(IManifestSignatureVerifier signatures, CancellationToken cancellationToken) =>
        new ObjectCheck(_store, _index, _parts.Head, signatures, _parts.ChangingPoints).RunAsync(cancellationToken);

    /// <summary>
    /// Looks for copies of everything that has no sound one, stores them, and looks which points are whole again.
    /// </summary>
    /// <param name="sources">Asked in this order.</param>
    /// <param name="opener">Proves chunks before they are stored; without it, only map nodes are healed, which need no keys.</param>
    /// <param name="cancellationToken">Stops between records; what was stored stays.</param>
    public async ValueTask<HealReport> HealAsync(IReadOnlyList<IRecordSource> sources, IChunkOpener? opener, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(sources);
        var report = await new RecordHealer(_store, _index, sources, opener, _parts.Begin).RunAsync(cancellationToken);
        await SettleAsync(cancellationToken);
        return report;
    }

    /// <summary>
    /// Looks which damaged points are whole again, and which damages are healed. Cheap when there is no damage, or when
    /// nothing has changed since the last look, an hour ago at most.
    /// </summary>
    /// <returns>Points that are whole again.</returns>
    public async ValueTask<IReadOnlyList<Id16>> SettleAsync(CancellationToken cancellationToken)
    {
        var now = _parts.Clock.GetUtcNow().ToUnixTimeMilliseconds();
        if ((await _index.ReadAsync(DamageTable.List, cancellationToken)).Exists(static row => row.HealedMs == 0))
        {
            await _index.WriteAsync(connection => _ = DamageTable.Settle(connection, now), cancellationToken);
        }
        var incomplete = await _index.ReadAsync(PointTable.ListIncomplete, cancellationToken);
        // What was never counted has no rows that an upload could heal: any commit may have brought it.
        var commits = incomplete.Exists(static row => row.State == PointState.Uncounted) ? _parts.Points.Adopted : 0;
        var state = new Settled(_indexer.HealedCount, Interlocked.Read(ref _doubtsCleared), commits, now);
        if (incomplete.Count == 0 || (_settled is { } last && last.IsAs(state)))
        {
            return [];
        }
        using var changing = await _parts.ChangingPoints.CloseAsync(cancellationToken);
        var whole = await _parts.Points.RecheckAsync(cancellationToken);
        _settled = state;
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
        return await _index.ReadAsync(connection => PointTable.FindIncomplete(connection, point), cancellationToken) is { } row
            ? await new PointLosses(_store, _index).FindAsync(row.Info, row.ForgottenMs > 0, cancellationToken)
            : [];
    }

    /// <summary>When a pack in use was last read and found sound, or its damage handled, Unix milliseconds; 0: never; null: the index knows no such pack in use.</summary>
    public ValueTask<long?> FindPackProofAsync(string objectKey, CancellationToken cancellationToken) =>
        _index.ReadAsync(connection => ObjectKeys.TryParsePack(objectKey, out var hash) ? PackTable.FindProof(connection, hash) : null, cancellationToken);

    /// <summary>How much of the repository is proven since then.</summary>
    public ValueTask<ProofSummary> ReadProofAsync(long sinceMs, CancellationToken cancellationToken) =>
        _index.ReadAsync(
            connection =>
            {
                var (_, all) = PackTable.SumCheckedBefore(connection, long.MaxValue);
                var (_, old) = PackTable.SumCheckedBefore(connection, sinceMs);
                // A damage that was handled is no proof of what is in doubt.
                return new ProofSummary(all, all - old - PackTable.SumDoubtful(connection, sinceMs), PackTable.FindOldestProof(connection));
            },
            cancellationToken);

    public void Dispose() => _scrubbing.Dispose();

    /// <summary>What was known when points were last looked at.</summary>
    private sealed record Settled(long Healed, long DoubtsCleared, long Commits, long AtMs)
    {
        public bool IsAs(Settled now) => this with { AtMs = 0 } == now with { AtMs = 0 } && now.AtMs >= AtMs && now.AtMs - AtMs < RecheckEvery.TotalMilliseconds;
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
    public required Gate Deleting { get; init; }
    public required Gate Collecting { get; init; }

    /// <summary>Entered by whoever marks nodes complete beside changes of points.</summary>
    public required SharedGate Marking { get; init; }

    public required Func<Id16, ushort, IngestSession> Begin { get; init; }
}
