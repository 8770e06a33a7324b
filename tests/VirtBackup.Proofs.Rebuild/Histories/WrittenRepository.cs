using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Keys;
using VirtBackup.Format.Records;
using VirtBackup.Proofs.CollectionScale.Measuring;
using VirtBackup.Repository;
using VirtBackup.Repository.Collection;
using VirtBackup.Repository.Commits;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Ingest;
using VirtBackup.Repository.Tests.Fixtures;
using VirtBackup.Testing.Proofs;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Proofs.Rebuild.Histories;

/// <summary>A small repository that is really written, in memory, with an index that grows.</summary>
internal sealed class WrittenRepository : IAsyncDisposable
{
    private static readonly Id16 Uuid = Machine.NameOf("repository", 1);
    private static readonly Id16 Scope = Machine.NameOf("scope", 1);
    private static readonly RepositoryOptions SmallPacks = new() { PackBytesTarget = 25_000 };
    private static int _databases;

    private readonly SimulatedStore _store;
    private readonly SetClock _clock;
    private SqliteDatabase _index;

    private WrittenRepository(SimulatedStore store, SetClock clock, SqliteDatabase index, BackupRepository repository)
    {
        (_store, _clock, _index, Repository) = (store, clock, index, repository);
    }

    public BackupRepository Repository { get; private set; }

    public static async Task<WrittenRepository> CreateAsync()
    {
        var (store, clock, index) = (new SimulatedStore(), new SetClock(DateTimeOffset.UnixEpoch.AddDays(20_000)), NewIndex());
        byte[] publicKey = [1, 2, 3];
        var head = new RepositoryHead { Uuid = Uuid, Created = DateTimeOffset.UnixEpoch, RestoreKey = publicKey };
        await RepositoryInitializer.InitializeAsync(store, head, new WrappedKey(KeyId.Compute(publicKey), new byte[60]).ToBytes(), CancellationToken.None);
        return new WrittenRepository(store, clock, index, await OpenAsync(store, index, clock));
    }

    public static Machine NewMachine(int seed) => new(Uuid, Scope, seed);

    public void Pass(TimeSpan time) => _clock.Pass(time);

    /// <summary>As an agent does: what the probe calls present is not sent.</summary>
    public async Task BackUpAsync(PointBytes point, bool commits)
    {
        await using var session = Repository.BeginIngest(Scope, 1);
        foreach (var epoch in point.Epochs)
        {
            await Repository.PutKeyAsync(point.Machine.Key(epoch), CancellationToken.None);
        }
        var chunks = point.Chunks.ToList();
        var ids = chunks.SelectMany(static record => RecordHeader.Parse(record).Id.ToArray()).ToArray();
        var present = await Repository.ProbeAsync(RecordKind.Data, session, ids, CancellationToken.None);
        await SendAsync(session, RecordKind.Data, chunks.Where((_, i) => (present[i / 8] & (1 << (i % 8))) == 0));
        await SendAsync(session, RecordKind.Map, point.Nodes);
        if (commits)
        {
            await Repository.CommitAsync(session, point.Manifest, point.Expectation, KeylessLeafInspector.Instance, CancellationToken.None);
        }
    }

    public async Task CollectAsync(int deadPercent)
    {
        var report = await Repository.CollectAsync(new CollectionOptions { RepackDeadPercent = deadPercent }, CancellationToken.None);
        if (report.Problems.Count > 0) throw new RefutedException($"the collection found something wrong: {report.Problems[0]}");
    }

    public Task<IReadOnlyList<string>> DumpAsync() => IndexDump.WriteAsync(_index, CancellationToken.None).AsTask();

    /// <summary>The index is lost; the next one is what a rebuild makes of the store.</summary>
    /// <param name="cutOffAt">Transactions before a first rebuild of it is cut off; null: there is none.</param>
    /// <returns>Whether a rebuild was cut off.</returns>
    public async Task<bool> RebuildAsync(int? cutOffAt)
    {
        await DisposeAsync();
        _index = NewIndex();
        var isCutOff = false;
        if (cutOffAt is { } transactions)
        {
            try
            {
                await (await OpenAsync(_store, new FailingDatabase(_index, transactions), _clock)).DisposeAsync();
                await _index.DisposeAsync();
                _index = NewIndex();
            }
            catch (CutOffException)
            {
                isCutOff = true;
            }
        }
        Repository = await OpenAsync(_store, _index, _clock);
        return Repository.OpenReport is { Rebuilt: true, ProblemCount: 0 }
            ? isCutOff
            : throw new RefutedException($"the index was not rebuilt whole: {Repository.OpenReport}");
    }

    public async ValueTask DisposeAsync()
    {
        await Repository.DisposeAsync();
        await _index.DisposeAsync();
    }

    private static SqliteDatabase NewIndex() => SqliteDatabase.OpenInMemory($"index {Interlocked.Increment(ref _databases)}", RepositoryIndex.Schema);

    private static ValueTask<BackupRepository> OpenAsync(IObjectStore store, IDatabase index, TimeProvider clock) =>
        BackupRepository.OpenAsync(store, index, SmallPacks, clock, new CountedNames(), CancellationToken.None);

    private static async Task SendAsync(IngestSession session, RecordKind kind, IEnumerable<byte[]> records)
    {
        var lane = session.OpenLane(kind);
        foreach (var record in records)
        {
            await lane.AppendAsync(record, CancellationToken.None);
        }
        await lane.FlushAsync(CancellationToken.None);
    }

    private sealed class CountedNames : IEntropy
    {
        private static int _next;

        public void Fill(Span<byte> destination) => new Random(Interlocked.Increment(ref _next)).NextBytes(destination);
    }
}

/// <summary>The process dies before a transaction.</summary>
internal sealed class CutOffException() : Exception("cut off");

/// <summary>A database whose process dies after some transactions.</summary>
internal sealed class FailingDatabase(IDatabase inner, int transactions) : IDatabase
{
    private int _left = transactions;

    public ValueTask<T> WriteAsync<T>(Func<ISqlConnection, T> body, CancellationToken cancellationToken) =>
        _left-- > 0 ? inner.WriteAsync(body, cancellationToken) : throw new CutOffException();

    public ValueTask<T> ReadAsync<T>(Func<ISqlConnection, T> body, CancellationToken cancellationToken) => inner.ReadAsync(body, cancellationToken);

    public IScratch OpenScratch() => inner.OpenScratch();

    public ValueTask DisposeAsync() => inner.DisposeAsync();
}
