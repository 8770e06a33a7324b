using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Keys;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Commits;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Ingest;
using VirtBackup.Repository.Reading;
using VirtBackup.Repository.Verification;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Repository.Tests.Fixtures;

/// <summary>A store, an index in memory, and a repository open on them.</summary>
internal sealed class World : IAsyncDisposable
{
    public static readonly Id16 Uuid = Machine.NameOf("repository", 1);
    public static readonly Id16 Scope = Machine.NameOf("scope", 1);

    private static int _databases;

    private World(IObjectStore store, IDatabase index, TimeProvider clock, BackupRepository repository)
    {
        Store = store;
        Index = index;
        Clock = clock;
        Repository = repository;
    }

    public TimeProvider Clock { get; }

    public IObjectStore Store { get; }

    public IDatabase Index { get; }

    public BackupRepository Repository { get; }

    public static CancellationToken Token => TestContext.Current.CancellationToken;

    public static IDatabase NewIndex() => SqliteDatabase.OpenInMemory($"index {Interlocked.Increment(ref _databases)}", RepositoryIndex.Schema);

    public static async ValueTask InitializeAsync(IObjectStore store, Id16? uuid = null)
    {
        byte[] publicKey = [1, 2, 3];
        var head = new RepositoryHead { Uuid = uuid ?? Uuid, Created = DateTimeOffset.UnixEpoch, RestoreKey = publicKey };
        await RepositoryInitializer.InitializeAsync(store, head, new WrappedKey(KeyId.Compute(publicKey), new byte[60]).ToBytes(), Token);
    }

    /// <summary>A new repository.</summary>
    public static async ValueTask<World> CreateAsync(IObjectStore? store = null, RepositoryOptions? options = null, TimeProvider? clock = null, Id16? uuid = null)
    {
        store ??= new SimulatedStore();
        await InitializeAsync(store, uuid);
        return await OpenAsync(store, NewIndex(), options, clock);
    }

    public static async ValueTask<World> OpenAsync(IObjectStore store, IDatabase index, RepositoryOptions? options = null, TimeProvider? clock = null)
    {
        clock ??= new SetClock();
        return new(store, index, clock, await OpenRepositoryAsync(store, index, options, clock));
    }

    public static ValueTask<BackupRepository> OpenRepositoryAsync(
        IObjectStore store, IDatabase index, RepositoryOptions? options = null, TimeProvider? clock = null) =>
        BackupRepository.OpenAsync(store, index, options ?? new RepositoryOptions(), clock ?? new SetClock(), new SeededEntropy(), Token);

    public Machine NewMachine(int seed) => new(Uuid, Scope, seed);

    /// <summary>Opens the same store with a new index, which is rebuilt.</summary>
    public ValueTask<World> RebuildAsync(RepositoryOptions? options = null) => OpenAsync(Store, NewIndex(), options, Clock);

    /// <summary>The controller dies and starts again on the same store and index.</summary>
    public ValueTask<World> RestartAsync(RepositoryOptions? options = null) => OpenAsync(Store, Index, options, Clock);

    public IngestSession Begin() => Repository.BeginIngest(Scope, 1);

    /// <summary>What a session of that scope is told.</summary>
    public static async ValueTask<byte[]> ProbeAsync(BackupRepository repository, RecordKind kind, Id16 scope, ReadOnlyMemory<byte> ids)
    {
        await using var session = repository.BeginIngest(scope, 1);
        return await repository.ProbeAsync(kind, session, ids, Token);
    }

    public async ValueTask<CommitResult> BackUpAsync(PointBytes point)
    {
        await using var session = Repository.BeginIngest(point.Machine.Scope, 1);
        await UploadAsync(session, point);
        return await CommitAsync(session, point);
    }

    public async ValueTask UploadAsync(IngestSession session, PointBytes point)
    {
        foreach (var epoch in point.Epochs)
        {
            await Repository.PutKeyAsync(point.Machine.Key(epoch), Token);
        }
        await SendAsync(session, RecordKind.Data, point.Chunks);
        await SendAsync(session, RecordKind.Map, point.Nodes);
    }

    public static async ValueTask SendAsync(IngestSession session, RecordKind kind, IEnumerable<byte[]> records)
    {
        var lane = session.OpenLane(kind);
        foreach (var record in records)
        {
            await lane.AppendAsync(record, Token);
        }
        await lane.FlushAsync(Token);
        Assert.Equal(lane.AppendedOffset, lane.DurableOffset);
    }

    public ValueTask<CommitResult> CommitAsync(IngestSession session, PointBytes point, ILeafInspector? inspector = null) =>
        Repository.CommitAsync(session, point.Manifest, point.Expectation, inspector ?? KeylessLeafInspector.Instance, Token);

    /// <summary>Asserts that every byte of a committed point can be read back.</summary>
    public async ValueTask AssertReadableAsync(PointBytes point)
    {
        var reader = await Repository.OpenPointAsync(point.Id, Token);
        Assert.Equal(point.Manifest, reader.Manifest.Bytes.ToArray());
        var read = await ReadAsync(reader, [new ByteRange(0, point.Geometry.StreamLength)]);
        static IEnumerable<string> InOrder(IEnumerable<byte[]> chunks) => chunks.Select(Convert.ToHexString).Order(StringComparer.Ordinal);
        Assert.True(InOrder(point.Chunks).SequenceEqual(InOrder(read)), $"The chunks that were stored and the {read.Count} that were read are not the same.");
    }

    /// <summary>The records that the ranges need, in the order in which they came.</summary>
    public static async ValueTask<List<byte[]>> ReadAsync(RecoveryPointReader reader, ByteRange[] ranges) =>
        Split(await CollectAsync(reader.ReadRecordsAsync(Machine.Stream, ranges, Token)));

    public static async ValueTask<byte[]> CollectAsync(IAsyncEnumerable<PooledSlice> slices)
    {
        using var bytes = new MemoryStream();
        await foreach (var slice in slices)
        {
            using (slice)
            {
                Assert.InRange(slice.Memory.Length, 1, Limits.SliceBytesMax);
                bytes.Write(slice.Memory.Span);
            }
        }
        return bytes.ToArray();
    }

    public static List<byte[]> Split(byte[] bytes)
    {
        var records = new List<byte[]>();
        for (var at = 0; at < bytes.Length;)
        {
            var length = RecordHeader.Parse(bytes.AsSpan(at)).RecordLength;
            records.Add(bytes.AsSpan(at, length).ToArray());
            at += length;
        }
        return records;
    }

    public ValueTask<VerificationReport> VerifyAsync(bool open) =>
        Repository.VerifyAsync(new VerificationOptions { Signatures = new HashSignatures(), Opener = open ? new HashOpener() : null }, Token);

    public ValueTask<IReadOnlyList<string>> DumpAsync() => IndexDump.WriteAsync(Index, Token);

    public async ValueTask<List<string>> KeysAsync(string prefix)
    {
        var keys = new List<string>();
        await foreach (var info in Store.ListAsync(prefix, Token))
        {
            keys.Add(info.Key);
        }
        return keys;
    }

    /// <summary>Replaces an object's bytes behind the repository's back.</summary>
    public async ValueTask ReplaceAsync(string key, byte[] bytes)
    {
        await Store.DeleteAsync(key, Token);
        Assert.True(await Store.PutAsync(key, bytes, Token));
    }

    public async ValueTask DisposeAsync()
    {
        await Repository.DisposeAsync();
        await Index.DisposeAsync();
    }
}

/// <summary>Time that passes only when a test says so.</summary>
internal sealed class SetClock : TimeProvider
{
    private DateTimeOffset _now = DateTimeOffset.UnixEpoch.AddDays(20_000);

    public void Pass(TimeSpan time) => _now += time;

    public override DateTimeOffset GetUtcNow() => _now;
}

/// <summary>Different names for every claim, the same in every run.</summary>
internal sealed class SeededEntropy : IEntropy
{
    private static int _next;

    public void Fill(Span<byte> destination) => new Random(Interlocked.Increment(ref _next)).NextBytes(destination);
}

internal sealed class HashSignatures : IManifestSignatureVerifier
{
    public ValueTask VerifyAsync(Manifest manifest, CancellationToken cancellationToken) =>
        manifest.Signature.Span.SequenceEqual(Machine.Signature(Manifest.SignedBytesOf(manifest.HeadBytes.Span, manifest.SealedBody.Span)))
            ? ValueTask.CompletedTask
            : throw FaultException.Corrupt("The signature is not valid.");
}

/// <param name="origin">The only repository whose chunks it opens; null: all.</param>
internal sealed class HashOpener(Id16? origin = null) : IChunkOpener
{
    public bool Opens(Id16 repository) => origin is null || origin == repository;

    public ValueTask OpenAsync(Id16 vm, MapEntry entry, ReadOnlyMemory<byte> record, CancellationToken cancellationToken)
    {
        var tag = System.Security.Cryptography.SHA256.HashData(record.Span[..^16]).AsSpan(0, 16);
        return RecordHeader.Parse(record.Span).Id == entry.Id && tag.SequenceEqual(record.Span[^16..])
            ? ValueTask.CompletedTask
            : throw FaultException.Corrupt("It does not open.");
    }
}
