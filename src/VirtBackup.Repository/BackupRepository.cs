using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Auditing;
using VirtBackup.Repository.Collection;
using VirtBackup.Repository.Commits;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Ingest;
using VirtBackup.Repository.Points;
using VirtBackup.Repository.Reading;
using VirtBackup.Repository.Rebuilding;
using VirtBackup.Repository.Replication;
using VirtBackup.Repository.Scrubbing;
using VirtBackup.Repository.Verification;

namespace VirtBackup.Repository;

/// <summary>
/// An open repository, owned by this process: takes in records, commits recovery points, reads them back. It never sees
/// plaintext: all it holds is sealed, and checked by what needs no key. Safe for concurrent use. Store and index belong to
/// the caller and must outlive it.
/// </summary>
public sealed class BackupRepository : IAsyncDisposable
{
    /// <summary>Packs of a pull over a network are closed at this length: what is not durable when it is cut off travels again.</summary>
    private const int ReplicaPackBytesMax = 8 << 20;

    private readonly IObjectStore _store;
    private readonly IDatabase _index;
    private readonly RepositoryOptions _options;
    private readonly PackIndexer _indexer;
    private readonly RecoveryPointCommitter _committer;
    private readonly PointKeeper _points;
    private readonly KeyKeeper _keys;
    private readonly Ownership _owner;
    private readonly Gate _changingPoints = new();
    private readonly Gate _deleting = new();
    private readonly Gate _collecting = new();
    private readonly SharedGate _marking = new();
    private readonly LiveClaims _claims = new();
    private readonly FlooredClock _clock;
    private readonly ReplicaIntake _intake;

    private BackupRepository(IObjectStore store, IDatabase index, RepositoryOptions options, FlooredClock clock, Ownership owner, RepositoryHead head)
    {
        _store = store;
        _index = index;
        _options = options;
        _clock = clock;
        _owner = owner;
        Head = head;
        _indexer = new PackIndexer(index, clock, owner.Generation);
        _committer = new RecoveryPointCommitter(store, index, owner, head.Uuid, clock) { IsOfCopy = options.IsCopy };
        _points = new PointKeeper(store, index, owner, _committer, clock);
        _keys = new KeyKeeper(store, index, head.Uuid);
        Retention = new PointRetention(store, index);
        Serving = new ReplicaServing(store, index, _keys, _committer.Adoptions, owner.Generation, options.NodeCacheBytes);
        _intake = new ReplicaIntake(new ReplicaIntakeParts
        {
            Head = head, Store = store, Index = index, Committer = _committer, Keys = _keys, ChangingPoints = _changingPoints, Deleting = _deleting, Marking = _marking,
            Begin = scope => Begin(scope, null, null, options.IsCopy ? int.MaxValue : ReplicaPackBytesMax),
        });
        Upkeep = new RepositoryUpkeep(new UpkeepParts
        {
            Store = store, Index = index, Clock = clock, Owner = owner, Head = head, Points = _points, Indexer = _indexer,
            ChangingPoints = _changingPoints, Deleting = _deleting, Collecting = _collecting, Marking = _marking,
            Begin = (scope, idGeneration) => BeginIngest(scope.IsEmpty ? head.Uuid : scope, idGeneration),
        });
    }

    /// <summary>What the repository is.</summary>
    public RepositoryHead Head { get; }

    /// <summary>This ownership's number: with a job's attempt the fencing token.</summary>
    public long Generation => _owner.Generation;

    /// <summary>Length at which packs are closed, bytes.</summary>
    public int PackBytesTarget => _options.PackBytesTarget ?? _store.PackBytesTarget;

    /// <summary>What the store was asked over the network, or null when it is none of that kind.</summary>
    public StoreTraffic? Traffic => _store.Traffic;

    /// <summary>Scrubbing, quarantine and healing.</summary>
    public RepositoryUpkeep Upkeep { get; }

    /// <summary>Retention by the store's provider of what locked points need.</summary>
    public PointRetention Retention { get; }

    /// <summary>What other repositories may take from this one.</summary>
    public ReplicaServing Serving { get; }

    /// <summary>What opening found: whether the index was rebuilt, and what is damaged.</summary>
    public OpenReport OpenReport { get; private init; } = OpenReport.Nothing;

    /// <summary>
    /// Opens the repository and becomes its owner: a process that owned it before is fenced. Brings the index up to the
    /// store, which is the truth; an index that is stale or belongs to another repository is rebuilt.
    /// </summary>
    /// <param name="store">The repository's objects; its own lock should keep out a second owner.</param>
    /// <param name="index">Opened with <see cref="RepositoryIndex.Schema"/>.</param>
    /// <param name="options">How to use it.</param>
    /// <param name="clock">For the times in the index.</param>
    /// <param name="entropy">Names the claim of ownership.</param>
    /// <param name="cancellationToken">Stops the opening; it can be tried again.</param>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.NotFound"/>: no repository here; <see cref="FaultReason.Unsupported"/>: made by a newer program;
    /// <see cref="FaultReason.RepositoryBusy"/>: taken by another process at this moment.
    /// </exception>
    public static async ValueTask<BackupRepository> OpenAsync(
        IObjectStore store, IDatabase index, RepositoryOptions options, TimeProvider clock, IEntropy entropy, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(store);
        ArgumentNullException.ThrowIfNull(index);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(clock);
        var floored = new FlooredClock(clock);
        floored.Raise(options.TimeFloorMs);
        floored.Raise((await index.ReadAsync(CollectionRow.Read, cancellationToken)).StartedMs);
        var head = await ReadHeadAsync(store, cancellationToken);
        var (latest, nonce) = await Ownership.FindLatestAsync(store, cancellationToken);
        var known = await index.ReadAsync(OwnerRow.Read, cancellationToken);
        var isCurrent = !options.RebuildIndex && known is { Rebuilding: false } && known.Repository == head.Uuid
            && ((known.Generation == latest && known.Nonce == nonce) || known.Generation == latest + 1);
        var row = new OwnerRow(head.Uuid, latest, nonce, Rebuilding: !isCurrent);
        var owner = await Ownership.ClaimAsync(store, index, row, latest, floored, entropy, cancellationToken);
        var committer = new RecoveryPointCommitter(store, index, owner, head.Uuid, floored);
        var reconciler = new IndexReconciler(store, index, committer, owner.Generation, floored, options.RebuildProgress);
        var report = await reconciler.RunAsync(rebuild: !isCurrent, cancellationToken);
        var repository = new BackupRepository(store, index, options, floored, owner, head) { OpenReport = report };
        // Before anybody can rely on what was in them.
        await repository.Upkeep.TakeOutAsync(reconciler.Gone, cancellationToken);
        return repository;
    }

    /// <summary>Reads and checks the object FORMAT.</summary>
    public static async ValueTask<RepositoryHead> ReadHeadAsync(IObjectStore store, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(store);
        if (await store.FindAsync(ObjectKeys.Format, cancellationToken) is null)
        {
            throw new FaultException(FaultReason.NotFound, "There is no repository in this place: the object FORMAT is missing. Check the path.");
        }
        return RepositoryHead.Parse(await store.ReadAllAsync(ObjectKeys.Format, RepositoryHead.BytesMax, cancellationToken));
    }

    /// <summary>It is at least so late now: later stamps are not earlier, whatever the wall clock says.</summary>
    /// <param name="nowMs">Unix milliseconds of a clock that can be trusted.</param>
    public void RaiseTime(long nowMs) => _clock.Raise(nowMs);

    /// <summary>Begins to take in records of one scope.</summary>
    /// <param name="scope">Of every data record.</param>
    /// <param name="idGeneration">The id key's.</param>
    /// <param name="basePoint">A point whose nodes may be shared: it is not purged while the session is open.</param>
    /// <param name="packBytesMax">Packs are closed at this length already, because their sender keeps no more.</param>
    public IngestSession BeginIngest(Id16 scope, ushort idGeneration, Id16? basePoint = null, int packBytesMax = int.MaxValue) =>
        Begin(scope, idGeneration, basePoint, packBytesMax);

    private IngestSession Begin(Id16 scope, ushort? idGeneration, Id16? basePoint, int packBytesMax)
    {
        Check.That(!scope.IsEmpty);
        var claim = _claims.BeginSession(_clock.GetUtcNow().ToUnixTimeMilliseconds(), basePoint);
        return new IngestSession(_store, _indexer, _deleting, claim, scope, idGeneration, Math.Min(PackBytesTarget, packBytesMax));
    }

    /// <summary>Keeps a point, visible or forgotten, from being purged until the result is disposed: for its readers.</summary>
    public IDisposable HoldPoint(Id16 point) => _claims.Hold(point);

    /// <summary>
    /// Which of these objects the session need not send: chunks that are durable for its scope, nodes below which
    /// everything is. They are not deleted while the session is open.
    /// </summary>
    /// <param name="kind">What the ids name.</param>
    /// <param name="session">The asking session.</param>
    /// <param name="ids">n * 32 bytes, n at most <see cref="Limits.ProbeIdsMax"/>.</param>
    /// <param name="cancellationToken">Stops the look-up.</param>
    /// <returns>Bit i % 8 of byte i / 8 stands for id i.</returns>
    public async ValueTask<byte[]> ProbeAsync(RecordKind kind, IngestSession session, ReadOnlyMemory<byte> ids, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(session);
        if (ids.Length % Id32.Size != 0 || ids.Length / Id32.Size > Limits.ProbeIdsMax || kind is not (RecordKind.Data or RecordKind.Map))
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A probe holds up to {Limits.ProbeIdsMax} ids of {Id32.Size} bytes, of chunks or nodes.");
        }
        using var deleting = await _deleting.CloseAsync(cancellationToken);
        var numbers = new List<long>(ids.Length / Id32.Size);
        var condemned = new List<Id32>();
        var bitmap = await _index.ReadAsync(
            connection =>
            {
                var bitmap = new byte[((ids.Length / Id32.Size) + 7) / 8];
                if (ObjectTable.FindScope(connection, session.Scope) is not { } number)
                {
                    return bitmap;
                }
                if (kind == RecordKind.Data)
                {
                    ObjectTable.ProbeChunks(connection, number, ids.Span, bitmap, numbers, condemned);
                }
                else
                {
                    ObjectTable.ProbeNodes(connection, number, ids.Span, bitmap, numbers, condemned);
                }
                return bitmap;
            },
            cancellationToken);
        session.Claim.Pin(numbers);
        if (condemned.Count > 0)
        {
            // A session that is replaced loses its pins: from this probe on another safety time must pass.
            await _index.WriteAsync(connection => condemned.ForEach(id => ObjectTable.Revive(connection, kind, id)), cancellationToken);
        }
        return bitmap;
    }

    /// <summary>Stores a sealed VM key; durable when it returns. The same bytes may be put again.</summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Malformed"/>; <see cref="FaultReason.Denied"/>: for another repository;
    /// <see cref="FaultReason.AlreadyExists"/>: another object has that name.
    /// </exception>
    public ValueTask PutKeyAsync(ReadOnlyMemory<byte> keyObject, CancellationToken cancellationToken) => PutKeyAsync(keyObject, Id16.Empty, cancellationToken);

    /// <summary>Stores a sealed VM key of a machine that continues in the name of another repository.</summary>
    /// <inheritdoc cref="PutKeyAsync(ReadOnlyMemory{byte}, CancellationToken)"/>
    public ValueTask PutKeyAsync(ReadOnlyMemory<byte> keyObject, Id16 origin, CancellationToken cancellationToken) => _keys.PutAsync(keyObject, origin, cancellationToken);

    /// <summary>Keeps an agent's public signing key (SubjectPublicKeyInfo), so that its manifests can be verified for ever.</summary>
    /// <returns>The key's id, as manifests name it.</returns>
    public ValueTask<Id16> PutAgentKeyAsync(ReadOnlyMemory<byte> subjectPublicKeyInfo, CancellationToken cancellationToken) =>
        _keys.PutAgentKeyAsync(subjectPublicKeyInfo, cancellationToken);

    /// <summary>The public signing key of that id.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>; <see cref="FaultReason.Corrupt"/>.</exception>
    public ValueTask<byte[]> ReadAgentKeyAsync(Id16 keyId, CancellationToken cancellationToken) => _keys.ReadAgentKeyAsync(keyId, cancellationToken);

    /// <summary>
    /// Commits a recovery point whose records are durable: the only call that makes data reachable. The same manifest may
    /// be committed again. The caller has verified the manifest's signature.
    /// </summary>
    /// <param name="session">The session that stored the records; all its lanes flushed.</param>
    /// <param name="manifest">The manifest object.</param>
    /// <param name="expected">What the session was told.</param>
    /// <param name="inspector">Checks the entries of new leaves with keys.</param>
    /// <param name="cancellationToken">May leave the outcome unknown: commit again or ask <see cref="FindPointAsync"/>.</param>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Incomplete"/>: a chunk, node, key object or the base is missing;
    /// <see cref="FaultReason.FailedPrecondition"/>: another head than expected; <see cref="FaultReason.AlreadyExists"/>: the
    /// point has another manifest; <see cref="FaultReason.Fenced"/>: the repository was taken over; what the inspector says.
    /// </exception>
    public async ValueTask<CommitResult> CommitAsync(
        IngestSession session, ReadOnlyMemory<byte> manifest, CommitExpectation expected, ILeafInspector inspector, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(session);
        // The long part first, beside other commits: what it marks, the walk below finds done.
        using (await _marking.EnterAsync(cancellationToken))
        {
            await _committer.PrepareAsync(session, manifest, expected, inspector, cancellationToken);
        }
        using var changing = await _changingPoints.CloseAsync(cancellationToken);
        return await _committer.CommitAsync(session, manifest, expected, inspector, cancellationToken);
    }

    /// <summary>
    /// Brings a recovery point here that another repository has, whatever repository it was made in: asks for what is not here
    /// and commits it. When it returns, the point is here and whole. After a failure, run it again: only what is still missing is asked for.
    /// </summary>
    /// <param name="source">Where it is.</param>
    /// <param name="wish">Which one.</param>
    /// <param name="options">How, and who proves its signature.</param>
    /// <param name="cancellationToken">Up to the commit; what became durable is kept for the next run.</param>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.FailedPrecondition"/>: it was forgotten here; <see cref="FaultReason.AlreadyExists"/>: it is here
    /// with another manifest; <see cref="FaultReason.Malformed"/>: the source sent something else than it was asked for;
    /// <see cref="FaultReason.Incomplete"/>: something was found damaged here meanwhile: run it again; what the verifier, the
    /// source or the store says.
    /// </exception>
    public ValueTask<ReplicaReport> PullAsync(IReplicaSource source, ReplicaWish wish, ReplicaOptions options, CancellationToken cancellationToken) =>
        _intake.PullAsync(source, wish, options, cancellationToken);

    /// <summary>The point, or null when it is not committed.</summary>
    public ValueTask<RecoveryPointInfo?> FindPointAsync(Id16 point, CancellationToken cancellationToken) =>
        _index.ReadAsync(connection => PointTable.Find(connection, point), cancellationToken);

    /// <summary>The points of a machine by sequence, or of all machines.</summary>
    public async ValueTask<IReadOnlyList<RecoveryPointInfo>> ListPointsAsync(Id16? vm, CancellationToken cancellationToken) =>
        await _index.ReadAsync(connection => PointTable.List(connection, vm), cancellationToken);

    /// <summary>The machine's point with the highest sequence, of one lineage or of all; or null.</summary>
    public ValueTask<RecoveryPointInfo?> FindTipAsync(Id16 vm, Id16? lineage, CancellationToken cancellationToken) =>
        _index.ReadAsync(connection => PointTable.FindTip(connection, vm, lineage), cancellationToken);

    /// <summary>Opens a committed point for reading.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>; <see cref="FaultReason.Corrupt"/>: its manifest is damaged.</exception>
    public async ValueTask<RecoveryPointReader> OpenPointAsync(Id16 point, CancellationToken cancellationToken)
    {
        var info = await FindPointAsync(point, cancellationToken)
            ?? throw new FaultException(FaultReason.NotFound, $"There is no recovery point {point} in the repository.");
        return new RecoveryPointReader(_store, _index, await RecoveryPointReader.ReadManifestAsync(_store, info, cancellationToken), _options.NodeCacheBytes);
    }

    /// <summary>Key objects of one epoch, one for each recipient.</summary>
    public async ValueTask<IReadOnlyList<ReadOnlyMemory<byte>>> ReadKeysAsync(Id16 vm, Id16 epoch, CancellationToken cancellationToken)
    {
        var keys = new List<ReadOnlyMemory<byte>>();
        await foreach (var info in _store.ListAsync(ObjectKeys.VmKeysOf(vm, epoch), cancellationToken))
        {
            keys.Add(await _store.ReadAllAsync(info.Key, Format.Keys.KeyObject.Size, cancellationToken));
        }
        return keys;
    }

    /// <summary>Takes a point out of the repository's list; nothing that it needs is deleted, and it can be brought back.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>; <see cref="FaultReason.RetentionLocked"/>; <see cref="FaultReason.Fenced"/>.</exception>
    public ValueTask ForgetAsync(Id16 point, CancellationToken cancellationToken) =>
        ChangeAsync(() => _points.ForgetAsync(point, cancellationToken), cancellationToken);

    /// <summary>Brings a forgotten point back, if everything it needs is still there; one that is known to be damaged, as it is.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>; <see cref="FaultReason.Incomplete"/>; <see cref="FaultReason.Fenced"/>.</exception>
    public ValueTask RecallAsync(Id16 vm, Id16 point, CancellationToken cancellationToken) =>
        ChangeAsync(() => _points.RecallAsync(vm, point, cancellationToken), cancellationToken);

    /// <summary>Points that can be brought back.</summary>
    public ValueTask<IReadOnlyList<ForgottenPoint>> ListForgottenAsync(CancellationToken cancellationToken) => _points.ListForgottenAsync(cancellationToken);

    /// <summary>What the repository holds, counted from its index.</summary>
    public ValueTask<RepositoryStatistics> GetStatisticsAsync(CancellationToken cancellationToken) =>
        _index.ReadAsync(StatisticsQuery.Run, cancellationToken);

    /// <summary>
    /// Reads everything, or what one recovery point needs, and says what is damaged and which recovery points that takes.
    /// Changes nothing; backups may run meanwhile.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>: the point that was asked for is not committed.</exception>
    public ValueTask<VerificationReport> VerifyAsync(VerificationOptions options, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(options);
        return new Verifier(_store, _index, Head, options).RunAsync(cancellationToken);
    }

    /// <summary>
    /// Frees what no recovery point needs any more, while everything else goes on; one run at a time. It can be stopped
    /// anywhere, and the next run goes on.
    /// </summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.InvalidArgument"/>: the options; <see cref="FaultReason.FailedPrecondition"/>: store and index
    /// differ, or a point is damaged, so that nothing may be deleted; <see cref="FaultReason.Fenced"/>;
    /// <see cref="FaultReason.RepositoryBusy"/>: a run is under way.
    /// </exception>
    public async ValueTask<CollectionReport> CollectAsync(CollectionOptions options, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(options);
        using var collecting = CloseCollecting();
        var run = new CollectionRun
        {
            Store = _store, Index = _index, Owner = _owner, Points = _points, Committer = _committer, Claims = _claims, Options = options, Clock = _clock,
            ChangingPoints = _changingPoints, Deleting = _deleting, PackBytesTarget = PackBytesTarget,
        };
        return await Collector.RunAsync(run, cancellationToken);
    }

    /// <summary>When the collector last came to its end, and what the last recount said.</summary>
    public ValueTask<CollectionState> GetCollectionStateAsync(CancellationToken cancellationToken) => _index.ReadAsync(
        static connection =>
        {
            var audit = AuditRow.Read(connection);
            return new CollectionState(CollectionRow.Read(connection).FinishedMs, audit?.FinishedMs ?? 0, audit?.Problem);
        },
        cancellationToken);

    /// <summary>
    /// Recounts all references from the manifests in the store and compares; backups go on meanwhile. When something needed
    /// is counted too seldom, or cannot be read, nothing is deleted any more until an audit is sound again.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.RepositoryBusy"/>: a collection or audit is under way.</exception>
    public async ValueTask<AuditReport> AuditAsync(CancellationToken cancellationToken)
    {
        using var collecting = CloseCollecting();
        return await new ReferenceAudit(_store, _index, _changingPoints, _clock).RunAsync(cancellationToken);
    }

    public ValueTask DisposeAsync()
    {
        _indexer.Dispose();
        _changingPoints.Dispose();
        _deleting.Dispose();
        _collecting.Dispose();
        _marking.Dispose();
        Upkeep.Dispose();
        return ValueTask.CompletedTask;
    }

    private IDisposable CloseCollecting() => _collecting.TryClose()
        ?? throw new FaultException(FaultReason.RepositoryBusy, "A collection or audit of this repository is under way: wait until it is over.");

    private async ValueTask ChangeAsync(Func<ValueTask> change, CancellationToken cancellationToken)
    {
        using var changing = await _changingPoints.CloseAsync(cancellationToken);
        await change();
    }
}
